/** Messages on standard error, which is not a data channel. */
// Only the core: the rest of consola opens standard output, and makes it non-blocking for every process
// that shares it.
import { createConsola, LogLevels } from "consola/core";
import { textOf } from "../messages/text.ts";
import { lineWriter, STDERR } from "../process/line-writer.ts";
import type { Log } from "../log.ts";
import { COMMAND_LINE } from "./vocabulary.ts";

/** How much is printed: errors only, also what every user needs, or also what helps to find a fault. */
export type Loudness = "quiet" | "normal" | "verbose";

const LEVELS = {
  quiet: LogLevels.error,
  normal: LogLevels.info,
  verbose: LogLevels.verbose,
} as const;

/** Also prints what only the command line says: how a stream has ended, and why it could not begin. */
export interface CliLog extends Log {
  error(message: string): void;
  /** Prints lines as they are, and never drops them. */
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
          // Errors and infos are few; there may be any number of the others.
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
