/** Command lines as they are typed. */
import { isPlainWord } from "../captive/command.ts";

/** A word for the shell, in quotes where it needs them. */
export function quoted(word: string): string {
  if (isPlainWord(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** A byte count as `size=` and `window=` take it, with a suffix where it is a round number. */
export function sizeText(bytes: number | bigint): string {
  const big = BigInt(bytes);
  const units = [
    ["G", 1n << 30n],
    ["M", 1n << 20n],
    ["k", 1n << 10n],
  ] as const;
  for (const [suffix, unit] of units) {
    if (big > 0n && big % unit === 0n) return `${big / unit}${suffix}`;
  }
  return String(big);
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
    ...(window === 0 ? [] : [`window=${sizeText(window)}`]),
  ];
  return ["nbd-streaming", "run", ...parameters, "--", ...command].map(quoted).join(" ");
}
