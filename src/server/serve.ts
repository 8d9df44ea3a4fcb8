/** `serve`: listen until the stream is done. */
import { nbdUri } from "./address.ts";
import { conclude, host, type HostOptions } from "./host.ts";
import type { Service } from "./service.ts";
import { signalStatus } from "./signals.ts";

/** Milliseconds for clients to get the error of a broken stream before they are cut off. */
const ERROR_GRACE = 400;
/** Milliseconds to hear of clients that have left, when a signal asks for the end. */
const CLOSE_GRACE = 200;

export interface ServeOptions extends HostOptions {
  /** Go on listening after a client that sent data has left; a signal ends the stream. */
  readonly keep: boolean;
}

/**
 * Serves one stream.
 *
 * @returns the exit status of a stream that is complete or was ended by a signal
 * @throws UserError ERR_TRUNCATED when the stream is not complete, other codes when it cannot start
 */
export function serve(options: ServeOptions): Promise<number> {
  return host(options, async (service) => {
    options.log.info(`listening on ${nbdUri(service.address, options.exportName ?? "")}`);
    return attend(service, options);
  });
}

async function attend(service: Service, options: ServeOptions): Promise<number> {
  const { facts } = service;
  const { signals, keep } = options;
  await service.until(
    () =>
      signals.caught !== undefined ||
      facts.failure !== undefined ||
      facts.ended ||
      (facts.wrote && service.open === 0 && (facts.dropped || !keep)),
  );
  if (signals.caught !== undefined) {
    // With --keep, a signal between two clients is the regular end of the stream. A client that has
    // left may not have been heard of yet.
    if (keep) await service.until(() => service.open === 0, CLOSE_GRACE);
    if (!keep || service.open > 0) return signalStatus(signals.caught);
  }
  if (facts.failure !== undefined) {
    await service.until(() => service.open === 0 || signals.caught !== undefined, ERROR_GRACE);
  }
  return conclude(service, options, "clients", false);
}
