/** `serve`: listen until the stream is done. */
import { EXIT } from "../errors.ts";
import { host, type Hosted, type HostOptions, type Outcome } from "./host.ts";
import type { Verdict } from "./summary.ts";

/** Milliseconds for clients to get the error of a broken stream before they are cut off. */
const ERROR_GRACE = 400;

export interface ServeOptions extends HostOptions {
  /** Go on listening after a client that moved the stream has left; a signal ends the stream. */
  readonly keep: boolean;
}

/** Serves one stream. @throws UserError when it cannot start */
export function serve(options: ServeOptions): Promise<Outcome> {
  return host(options, (hosted) => attend(hosted, options));
}

async function attend(hosted: Hosted, options: ServeOptions): Promise<Verdict> {
  const { interruption, keep, entrance } = options;
  const { service } = hosted;
  const { facts } = service;
  const isDone = () =>
    facts.streamed && service.open === 0 && !facts.awaited && (facts.dropped || !keep);
  const isAlone = () => entrance.kind === "single" && service.deserted && !facts.awaited;
  await service.until(
    () =>
      interruption.caught !== undefined ||
      facts.failure !== undefined ||
      facts.ended ||
      isDone() ||
      isAlone(),
  );
  if (interruption.caught !== undefined) {
    // A client that has left may not have been heard of yet: nbdcopy sends a signal right after its
    // last word to a server that it has started. With --keep, a signal between two clients is the
    // regular end of the stream.
    await service.heardAll();
    if (!isDone() && (!keep || service.open > 0)) return hosted.interrupted();
  } else if (isAlone() && !facts.streamed && facts.failure === undefined) {
    return { status: EXIT.TRUNCATED, why: "the client has left and has not moved the stream" };
  }
  if (facts.failure !== undefined) {
    await service.until(() => service.open === 0 || interruption.caught !== undefined, ERROR_GRACE);
  }
  return hosted.conclude("clients");
}
