/** `serve`: listen until the stream is done. */
import { nbdUri } from "./address.ts";
import { host, type Hosted, type HostOptions } from "./host.ts";
import type { Verdict } from "./summary.ts";
import { requiredCertificates } from "./tls.ts";

/** Milliseconds for clients to get the error of a broken stream before they are cut off. */
const ERROR_GRACE = 400;

export interface ServeOptions extends HostOptions {
  /** Go on listening after a client that moved the stream has left; a signal ends the stream. */
  readonly keep: boolean;
}

/**
 * Serves one stream.
 *
 * @returns the exit status
 * @throws UserError when it cannot start
 */
export function serve(options: ServeOptions): Promise<number> {
  return host(options, (hosted) => {
    const { address } = hosted.service;
    const certificates = requiredCertificates(options.security);
    options.log.info(`listening on ${nbdUri(address, options.exportName ?? "", certificates)}`);
    return attend(hosted, options);
  });
}

async function attend(hosted: Hosted, { signals, keep }: ServeOptions): Promise<Verdict> {
  const { service } = hosted;
  const { facts } = service;
  await service.until(
    () =>
      signals.caught !== undefined ||
      facts.failure !== undefined ||
      facts.ended ||
      (facts.streamed && service.open === 0 && !facts.awaited && (facts.dropped || !keep)),
  );
  if (signals.caught !== undefined) {
    // With --keep, a signal between two clients is the regular end of the stream. A client that has
    // left may not have been heard of yet.
    if (keep) await service.heardAll();
    if (!keep || service.open > 0) return hosted.interrupted();
  }
  if (facts.failure !== undefined) {
    await service.until(() => service.open === 0 || signals.caught !== undefined, ERROR_GRACE);
  }
  return hosted.conclude("clients");
}
