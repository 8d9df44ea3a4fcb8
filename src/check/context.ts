/** What every check that runs a server of its own has to be given. */
import type { ServeOptions } from "../library/options.ts";
import { resolveServe } from "../library/resolve.ts";
import type { Log } from "../log.ts";
import { NOBODY } from "../server/observer.ts";
import type { HostOptions } from "../server/settings.ts";
import type { StopSignal } from "../server/stop-signal.ts";

export interface CheckContext {
  readonly stopSignal: StopSignal;
  readonly workerUrl: URL;
  readonly log: Log;
}

/** A stream whose end is the check's business, and not the user's; what is not said has its default. */
export function privateHost(
  { stopSignal, workerUrl, log }: CheckContext,
  options: ServeOptions,
): HostOptions {
  const settings = resolveServe({ ...options, idleTimeout: 0, workerUrl });
  return { ...settings, stopSignal, observer: NOBODY, log: quiet(log) };
}

/** All that a server says, for those who want to hear everything. */
function quiet(log: Log): Log {
  const say = (message: string) => log.verbose(message);
  return { info: say, warn: say, verbose: say };
}
