/** `serve`: listen until the stream is done. */
import { EXIT } from "../errors.ts";
import { host, type Hosted, type HostOptions, type Outcome } from "./host.ts";
import { hasAll, lastWords } from "./last-words.ts";
import type { Service } from "./service.ts";
import type { Verdict } from "./summary.ts";

/** Milliseconds for clients to get the error of a broken stream before they are cut off. */
const ERROR_GRACE = 400;
/** Milliseconds between two looks at clients that have a part in the stream, or may come to have one. */
const LOOK = 1000;

export interface ServeOptions extends HostOptions {
  /** Go on listening after a client that moved the stream has left; a signal ends the stream. */
  readonly keep: boolean;
}

/** Serves one stream. @throws UserError when it cannot start */
export function serve(options: ServeOptions): Promise<Outcome> {
  return host(options, (hosted) => attend(hosted, options));
}

async function attend(hosted: Hosted, options: ServeOptions): Promise<Verdict> {
  const { interruption, keep, entrance, idleTimeout } = options;
  const { service } = hosted;
  const { facts } = service;
  const isFinished = () => facts.streamed && !facts.awaited && (facts.dropped || !keep);
  const isAlone = () => entrance.kind === "single" && service.deserted && !facts.awaited;
  const isOver = () =>
    interruption.caught !== undefined || facts.failure !== undefined || facts.ended || isAlone();
  await untilDone(service, {
    isOver,
    isFinished,
    patience: idleTimeout === undefined ? Number.POSITIVE_INFINITY : idleTimeout * 1000,
  });
  if (interruption.caught !== undefined) {
    // A client that has left may not have been heard of yet: nbdcopy sends a signal right after its
    // last word to a server that it has started. With --keep, a signal between two clients is the
    // regular end of the stream.
    await service.heardAll();
    const mayEnd = keep || isFinished();
    if (!mayEnd || !(await isBetweenClients(service, keep))) return hosted.interrupted();
    await service.giveUpLost();
  } else if (isAlone() && !facts.streamed && facts.failure === undefined) {
    return { status: EXIT.TRUNCATED, why: "the client has left and has not moved the stream" };
  }
  if (facts.failure !== undefined) {
    await service.until(() => service.open === 0 || interruption.caught !== undefined, ERROR_GRACE);
  }
  return hosted.conclude("clients");
}

interface Course {
  /** True when there is nothing to wait for. */
  readonly isOver: () => boolean;
  /** True when a client has moved the stream and left, and none is waited for that was lost. */
  readonly isFinished: () => boolean;
  /** Milliseconds that a client has to move something when the others are done. */
  readonly patience: number;
}

/**
 * Waits until a client that moved the stream has left and none is connected that does, or may: who has
 * moved nothing is given some time, and who negotiates as long as it goes on.
 */
async function untilDone(service: Service, course: Course): Promise<void> {
  const { isOver, isFinished, patience } = course;
  const { facts } = service;
  /** Since when nobody has had a part in the stream. */
  let since: number | undefined;
  for (;;) {
    await service.until(() => isOver() || isFinished());
    await service.acceptAll();
    if (isOver()) return;
    if (service.open === 0) {
      // Those who come from now on come too late.
      const { visitors } = service;
      const over = () => isOver() || service.open > 0 || facts.dropped;
      await lastWords(service, { over, visitors, processes: () => [] });
      if (isOver()) return;
      if (service.open === 0 && isFinished()) return;
    }
    const { open } = service;
    const standing = await service.look();
    let pause = LOOK;
    // A client may have been lost meanwhile, and has to find us when it comes back.
    if (service.open === 0 || !isFinished()) {
      since = undefined;
      continue;
    }
    if (standing?.engaged === 0) {
      since ??= performance.now();
      const silence = Math.max(standing.silence, performance.now() - since);
      if (facts.dropped || hasAll(standing) || silence >= patience) {
        await service.dismiss("silent");
        if (service.open === 0 && isFinished()) return;
      }
      pause = Math.min(LOOK, Math.max(1, patience - silence));
    } else {
      since = undefined;
    }
    await service.until(() => isOver() || service.open !== open, pause);
  }
}

/**
 * True when nobody is connected who has a part in the stream, and nobody is any more.
 *
 * @param always though the stream may not have all that it can have
 */
async function isBetweenClients(service: Service, always: boolean): Promise<boolean> {
  if (service.open === 0) return true;
  const standing = await service.look();
  if (!hasAll(standing) && !(always && standing?.engaged === 0)) return false;
  await service.dismiss("silent");
  return service.open === 0;
}
