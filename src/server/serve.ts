/** `serve`: listen until the stream is done. */
import { EXIT } from "../errors.ts";
import { host, type HostedStream, type HostOptions, type StreamResult } from "./host.ts";
import { hasAll, drain } from "./drain.ts";
import type { StreamServer } from "./stream-server.ts";
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
export function serve(options: ServeOptions): Promise<StreamResult> {
  return host(options, (stream) => attend(stream, options));
}

async function attend(stream: HostedStream, options: ServeOptions): Promise<Verdict> {
  const { stopSignal, keep, entrance, idleTimeout } = options;
  const { server } = stream;
  const { state } = server;
  const isFinished = () => state.streamed && !state.awaited && (state.dropped || !keep);
  const isAlone = () => entrance.kind === "single" && server.deserted && !state.awaited;
  const isOver = () =>
    stopSignal.caught !== undefined || state.failure !== undefined || state.ended || isAlone();
  await untilDone(server, {
    isOver,
    isFinished,
    patience: idleTimeout === undefined ? Number.POSITIVE_INFINITY : idleTimeout * 1000,
  });
  if (stopSignal.caught !== undefined) {
    // A client that has left may not have been heard of yet: nbdcopy sends a signal right after its
    // last word to a server that it has started. With --keep, a signal between two clients is the
    // regular end of the stream.
    await server.sync();
    const mayEnd = keep || isFinished();
    if (!mayEnd || !(await isBetweenClients(server, keep))) return stream.interrupted();
    await server.giveUpLost();
  } else if (isAlone() && !state.streamed && state.failure === undefined) {
    return { status: EXIT.TRUNCATED, why: { code: "NOTHING_MOVED" } };
  }
  if (state.failure !== undefined) {
    await server.until(() => server.open === 0 || stopSignal.caught !== undefined, ERROR_GRACE);
  }
  return stream.conclude("clients");
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
async function untilDone(server: StreamServer, course: Course): Promise<void> {
  const { isOver, isFinished, patience } = course;
  const { state } = server;
  /** Since when nobody has had a part in the stream. */
  let since: number | undefined;
  for (;;) {
    await server.until(() => isOver() || isFinished());
    await server.acceptAll();
    if (isOver()) return;
    if (server.open === 0) {
      // Those who come from now on come too late.
      const { visitors } = server;
      const over = () => isOver() || server.open > 0 || state.dropped;
      await drain(server, { over, visitors, processes: () => [] });
      if (isOver()) return;
      if (server.open === 0 && isFinished()) return;
    }
    const { open } = server;
    const standing = await server.look();
    let pause = LOOK;
    // A client may have been lost meanwhile, and has to find us when it comes back.
    if (server.open === 0 || !isFinished()) {
      since = undefined;
      continue;
    }
    if (standing?.engaged === 0) {
      since ??= performance.now();
      const silence = Math.max(standing.silence, performance.now() - since);
      if (state.dropped || hasAll(standing) || silence >= patience) {
        await server.dismiss("silent");
        if (server.open === 0 && isFinished()) return;
      }
      pause = Math.min(LOOK, Math.max(1, patience - silence));
    } else {
      since = undefined;
    }
    await server.until(() => isOver() || server.open !== open, pause);
  }
}

/**
 * True when nobody is connected who has a part in the stream, and nobody is any more.
 *
 * @param always though the stream may not have all that it can have
 */
async function isBetweenClients(server: StreamServer, always: boolean): Promise<boolean> {
  if (server.open === 0) return true;
  const standing = await server.look();
  if (!hasAll(standing) && !(always && standing?.engaged === 0)) return false;
  await server.dismiss("silent");
  return server.open === 0;
}
