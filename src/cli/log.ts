/** Messages on standard error, which is not a data channel. */
// Not all of it: the rest opens standard output, and makes it non-blocking for all who share it.
import { createConsola, LogLevels } from "consola/core";
import { textOf } from "../messages/text.ts";
import { lineWriter, STDERR } from "../process/line-writer.ts";
import type { Log } from "../log.ts";
import { COMMAND_LINE } from "./vocabulary.ts";

/** How much is said: only errors, what interests everybody, or also who looks for a fault. */
export type Loudness = "quiet" | "normal" | "verbose";

const LEVELS = {
  quiet: LogLevels.error,
  normal: LogLevels.info,
  verbose: LogLevels.verbose,
} as const;

/** Also says what a stream does not: how it has ended, and why the program cannot do it. */
export interface CliLog extends Log {
  error(message: string): void;
  /** Lines that must not be lost, as they are. */
  raw(text: string): void;
}

export function createLog(loudness: Loudness): CliLog {
  const stderr = lineWriter(STDERR);
  const consola = createConsola({
    level: LEVELS[loudness],
    // consola's own reporters write some levels to standard output, and several lines for an error.
    reporters: [
      {
        log({ type, args }) {
          const label = type === "error" || type === "warn" ? `${type}: ` : "";
          const line = `nbd-streaming: ${label}${args.join(" ").replaceAll("\n", " ")}\n`;
          // Errors and what interests everybody are few; of the rest there may be any number.
          if (type === "error" || type === "info") stderr.write(line);
          else stderr.writeOrDrop(line);
        },
      },
    ],
    // A repeated message may be a repeated fault.
    throttle: 0,
  });
  return {
    info: (message) => consola.info(textOf(message, COMMAND_LINE)),
    warn: (message) => consola.warn(textOf(message, COMMAND_LINE)),
    verbose: (message) => consola.verbose(textOf(message, COMMAND_LINE)),
    error: (message) => consola.error(message),
    raw: (text) => stderr.write(text),
  };
}
