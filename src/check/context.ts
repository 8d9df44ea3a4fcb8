/** What every check that runs a server of its own has to be given. */
import { hostOptions } from "../library/host-options.ts";
import type { StreamOptions } from "../library/options.ts";
import type { Words } from "../messages/notice.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { HostOptions } from "../server/host.ts";
import type { StopSignal } from "../server/stop-signal.ts";
import type { Log } from "../log.ts";
import { NOBODY } from "../server/observer.ts";

export interface CheckContext {
  readonly stopSignal: StopSignal;
  readonly workerUrl: URL;
  readonly log: Log;
  /** In whose words the findings are. */
  readonly vocabulary: Vocabulary;
}

/** A stream whose end is the check's business, and not the user's; what is not said has its default. */
export function privateHost(
  { stopSignal, workerUrl, log, vocabulary }: CheckContext,
  options: StreamOptions,
) {
  const frame = { stopSignal, observer: NOBODY, log: quiet(log), vocabulary };
  return {
    ...hostOptions({ ...options, workerUrl }, frame),
    needsSize: undefined,
    idleTimeout: undefined,
  } satisfies Partial<HostOptions>;
}

/** All that a server says, for those who want to hear everything. */
function quiet(log: Log): Log {
  const say = (message: Words) => log.verbose(message);
  return { info: say, warn: say, verbose: say };
}
