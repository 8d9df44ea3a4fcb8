/** Messages on standard error, which is not a data channel. */
import { writeSync } from "node:fs";
import { createConsola, LogLevels } from "consola";
import type { Log } from "../server/log.ts";

const STDERR = 2;

/** How much is said: only errors, what interests everybody, or also who looks for a fault. */
export type Loudness = "quiet" | "normal" | "verbose";

const LEVELS = {
  quiet: LogLevels.error,
  normal: LogLevels.info,
  verbose: LogLevels.verbose,
} as const;

export function createLog(loudness: Loudness): Log {
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

/** Tries for a message that standard error does not take at once, a millisecond apart. */
const TRIES = 100;

function say(line: string): void {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    try {
      writeSync(STDERR, line);
      return;
    } catch (error) {
      // A captive command may have made the shared descriptor non-blocking. Anything else means
      // that nobody reads it: there is no other place to complain, and the stream goes on.
      if ((error as { code?: string }).code !== "EAGAIN") return;
      Bun.sleepSync(1);
    }
  }
}
