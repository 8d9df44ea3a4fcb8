/** Messages on standard error, which is not a data channel. */
import { createConsola, LogLevels } from "consola";
import { writeAll } from "../process/write-all.ts";
import type { Log } from "../server/log.ts";

const STDERR = 2;

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
  /** Text for a program, as it is. */
  raw(text: string): void;
}

export function createLog(loudness: Loudness): CliLog {
  const consola = createConsola({
    level: LEVELS[loudness],
    // consola's own reporters write some levels to standard output, and several lines for an error.
    reporters: [
      {
        log({ type, args }) {
          const label = type === "error" || type === "warn" ? `${type}: ` : "";
          say(`nbd-streaming: ${label}${args.join(" ").replaceAll("\n", " ")}\n`);
        },
      },
    ],
    // A repeated message may be a repeated fault.
    throttle: 0,
  });
  return {
    info: (message) => consola.info(message),
    warn: (message) => consola.warn(message),
    verbose: (message) => consola.verbose(message),
    error: (message) => consola.error(message),
    raw: say,
  };
}

/** When nobody reads it, there is no other place to complain, and the stream goes on. */
function say(line: string): void {
  writeAll(STDERR, line);
}
