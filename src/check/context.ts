/** What every check that runs a server of its own has to be given. */
import type { HostOptions } from "../server/host.ts";
import type { Interruption } from "../server/interruption.ts";
import type { Log } from "../server/log.ts";
import { NOBODY } from "../server/observer.ts";

export interface CheckContext {
  readonly interruption: Interruption;
  readonly workerUrl: URL;
  readonly log: Log;
}

/** What a server does with a stream whose end is the check's business, and not the user's. */
export function privateHost({ interruption, workerUrl, log }: CheckContext) {
  return {
    needsSize: undefined,
    exportName: undefined,
    pad: false,
    exact: false,
    window: 0,
    security: { policy: "off" },
    negotiationTimeout: 10,
    idleTimeout: undefined,
    maxConnections: 100,
    reconnect: undefined,
    openTimeout: undefined,
    pidFile: undefined,
    checksum: undefined,
    observer: NOBODY,
    interruption,
    workerUrl,
    log: quiet(log),
  } as const satisfies Partial<HostOptions>;
}

/** All that a server says, for those who want to hear everything. */
function quiet(log: Log): Log {
  const say = (message: string) => log.verbose(message);
  return { info: say, warn: say, verbose: say };
}
