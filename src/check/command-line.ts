/** Command lines as they are typed. */
import { isPlainWord } from "../captive/command.ts";
import { formatSize } from "../size.ts";

/** A word for the shell, in quotes where it needs them. */
export function quoted(word: string): string {
  if (isPlainWord(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

export interface RunLine {
  /** What stands behind `pipe=`. */
  readonly sink: string;
  /** Bytes; undefined is none. */
  readonly size: bigint | undefined;
  /** Bytes; 0 is none. */
  readonly window: number;
  readonly command: readonly string[];
}

/** The line that runs a command with the stream as its disk. */
export function runLine({ sink, size, window, command }: RunLine): string {
  const parameters = [
    `pipe=${sink}`,
    ...(size === undefined ? [] : [`size=${size}`]),
    ...(window === 0 ? [] : [`window=${formatSize(window)}`]),
  ];
  return ["nbd-streaming", "run", ...parameters, "--", ...command].map(quoted).join(" ");
}
