/** `serve`: listen until the stream is done. */
import { drain, hasAll, areAllRepeated, STANDSTILL } from "./drain.ts";
import { host } from "./host.ts";
import type { HostOptions } from "./settings.ts";
import type { EndCondition } from "./stream-end.ts";
import type { StreamResult } from "./summary.ts";
import type { StreamServer } from "./stream-server.ts";

/** Milliseconds between two checks of the clients that are still connected. */
const LOOK = 1000;
/**
 * Milliseconds without a client after which those of a held stream are taken to be done. qemu-img(1) makes an
 * image over one connection, ends that well, and comes back for the data.
 */
const SETTLE = 1000;

export interface ServeOptions extends HostOptions {
  /** Go on listening after a client that moved the stream has left; a signal ends the stream. */
  readonly keep: boolean;
}

/** Serves streams until all have ended. @throws UserError when one of them cannot start */
export function serve(streams: readonly ServeOptions[]): Promise<StreamResult[]> {
  return host(streams, (stream) => stream.awaitEnd(clientsDone(stream.server, stream.options)));
}

function clientsDone(server: StreamServer, options: ServeOptions): EndCondition {
  const { stopSignal, keep, entrance, idleTimeout, hold } = options;
  const { state } = server;
  const isFinished = () => state.streamed && !state.awaited && (state.dropped || !keep);
  const isAlone = () => entrance.kind === "single" && server.deserted && !state.awaited;
  return {
    completedBy: "clients",
    done: (isOver) =>
      untilDone(server, {
        isOver: () => isOver() || isAlone(),
        isFinished,
        settles: hold,
        idleLimit: idleTimeout ?? Number.POSITIVE_INFINITY,
      }),
    endsBySignal: keep,
    mayBeEarly: () => stopSignal.caught === undefined && entrance.kind !== "single",
    isGone: () => server.open === 0,
    async drain() {
      if (stopSignal.caught === undefined) return true;
      // The event of a client's end may be on its way: nbdcopy sends a signal right after NBD_CMD_DISC to
      // a server that it has started. With --keep, a signal between two clients is the regular end of the
      // stream.
      await server.sync();
      if (!keep && !isFinished()) return false;
      // Without a client there is no stream to be complete, and with --pad it would be all zeroes.
      const hasHadClient = state.streamed || (state.connected && !state.abandoned);
      if (!hasHadClient) return false;
      if (!(await isBetweenClients(server, keep))) return false;
      await server.giveUpLost();
      return true;
    },
    problem: () => (isAlone() && !state.streamed ? { code: "NOTHING_MOVED" } : undefined),
  };
}

interface WaitOptions {
  /** True when the stream is over. */
  readonly isOver: () => boolean;
  /** True when a client has moved the stream and left, and no lost client is awaited. */
  readonly isFinished: () => boolean;
  /** A client that comes back soon after the others are gone is waited for. */
  readonly settles: boolean;
  /** Milliseconds that a client has to move something when the others are done. */
  readonly idleLimit: number;
}

/**
 * Waits until a client that moved the stream has left, and no other is connected that moves it or may do so.
 * A client that has moved nothing has a limited time; one that negotiates is waited for while that goes on.
 */
async function untilDone(server: StreamServer, options: WaitOptions): Promise<void> {
  const { isOver, isFinished, settles, idleLimit } = options;
  const { state } = server;
  const isSettled = () => !settles || state.dropped || settleTime(server) <= 0;
  /** Since when no client has been active. */
  let since: number | undefined;
  for (;;) {
    await server.until(() => isOver() || isFinished());
    await server.acceptAll();
    if (isOver()) return;
    if (!isSettled() && server.open === 0) {
      await server.until(() => isOver() || server.open > 0 || state.dropped, settleTime(server));
      continue;
    }
    if (server.open === 0) {
      // Clients that connect from now on are too late.
      const { accepted } = server;
      const over = () => isOver() || server.open > 0 || state.dropped;
      await drain(server, { over, accepted, processes: () => [] });
      if (isOver()) return;
      if (server.open === 0 && isFinished() && isSettled()) return;
    }
    const { open } = server;
    const status = await server.status();
    let pause = LOOK;
    // A client may have been lost meanwhile, and may come back.
    if (server.open === 0 || !isFinished()) {
      since = undefined;
      continue;
    }
    if (status?.active === 0) {
      since ??= performance.now();
      const silence = Math.max(status.silence, performance.now() - since);
      const isDone = hasAll(status) || areAllRepeated(server, status);
      if (state.dropped || isDone || silence >= idleLimit) {
        if (settles) await server.dismissOnly("silent");
        else await server.dismiss("silent");
        if (server.open === 0 && isFinished() && isSettled()) return;
      }
      pause = Math.min(LOOK, Math.max(1, idleLimit - silence));
    } else {
      since = undefined;
    }
    await server.until(() => isOver() || server.open !== open, pause);
  }
}

/**
 * Milliseconds in which a client may still come back, if no other comes and leaves. Those that only query the
 * stream, again and again, do not delay its end for ever.
 */
function settleTime({ departures: { last, lastMover } }: StreamServer): number {
  const until = Math.min(last + SETTLE, lastMover + STANDSTILL);
  return until - performance.now();
}

/**
 * Disconnects the clients of a stream for which no client is active.
 *
 * @param always also where the stream is not full
 * @returns true when no client is connected any more
 */
async function isBetweenClients(server: StreamServer, always: boolean): Promise<boolean> {
  if (server.open === 0) return true;
  const status = await server.status();
  if (!hasAll(status) && !(always && status?.active === 0)) return false;
  await server.dismiss("silent");
  return server.open === 0;
}
