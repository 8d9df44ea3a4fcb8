/** Messages on standard error, which is not a data channel. */
import { writeSync } from "node:fs";
import { createConsola, LogLevels } from "consola";
import type { Log } from "../server/log.ts";

const STDERR = 2;

/** @param verbose show what only interests who looks for a fault */
export function createLog(verbose: boolean): Log {
  const consola = createConsola({
    level: verbose ? LogLevels.verbose : LogLevels.info,
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
