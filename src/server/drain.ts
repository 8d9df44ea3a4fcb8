/** Waits for the clients that may still change a stream whose end has come. */
import type { StreamStatus } from "../stream/messages.ts";
import type { StreamServer } from "./stream-server.ts";

/** Milliseconds of silence after which clients are not waited for any more. */
const SILENCE = 500;
/**
 * Milliseconds in which the stream has to move, whatever clients do: one that negotiates, or only asks, again
 * and again would keep it from its end for ever.
 */
const STANDSTILL = 10_000;
/** Milliseconds between two looks: the first is for a client that is just about to leave. */
const FIRST_LOOK = 5;
const LAST_LOOK = 50;

/** What may still change the stream. */
export interface Remaining {
  /** Clients are connected. */
  readonly connected: boolean;
  /** A client is connected that has not chosen the export. */
  readonly negotiating: boolean;
  /** A client was lost, and may come back (`--reconnect`). */
  readonly awaited: boolean;
  /** Processes that may connect, by `name (process id)`. */
  readonly processes: readonly string[];
}

export interface DrainOptions {
  /** True when there is nothing to wait for, whatever remains. */
  readonly over: () => boolean;
  /** Processes that live and may connect; asked only when that matters. */
  readonly processes: () => readonly string[];
  /** Waits for negotiating clients among the first so many connections only; undefined is all. */
  readonly accepted?: number;
}

/**
 * Waits until nothing remains that could change the stream, and goes on listening meanwhile. It waits as long
 * as something happens: a client comes, negotiates, or says something, or the stream waits for its endpoint. A
 * stream that has all that it can have waits only for clients that have had a part in it.
 *
 * @returns what remains when nothing has happened for a while; undefined when nothing does
 */
export async function drain(
  server: StreamServer,
  { over, processes, accepted }: DrainOptions,
): Promise<Remaining | undefined> {
  const { state } = server;
  const begun = performance.now();
  let [heard, moved, seen] = [begun, begun, server.accepted];
  for (let pause = FIRST_LOOK; ; pause = Math.min(2 * pause, LAST_LOOK)) {
    await server.acceptAll();
    if (over()) return undefined;
    if (server.open === 0 && !state.awaited && server.isThrough) return undefined;
    const negotiating = server.negotiating(accepted);
    const clients = {
      connected: server.open > 0,
      negotiating: negotiating.count > 0,
      awaited: state.awaited,
    };
    const isClient = Object.values(clients).includes(true);
    if (!isClient && processes().length === 0) return undefined;
    const status = await server.status();
    if (over()) return undefined;
    if (state.streamed && !state.awaited && hasAll(status)) return undefined;
    const now = performance.now();
    if (status === undefined || status.waitsForEndpoint || status.moved) {
      heard = moved = now;
    } else {
      heard = Math.max(heard, now - Math.min(status.silence, negotiating.silence));
      // A client that has come, asked, and gone may be followed by one that does more.
      if (accepted === undefined && server.accepted > seen) heard = now;
    }
    seen = server.accepted;
    if (now - heard >= SILENCE || now - moved >= STANDSTILL) {
      return { ...clients, processes: processes() };
    }
    const { open } = server;
    const isNews = () =>
      server.open !== open || server.negotiating(accepted).count !== negotiating.count;
    await server.until(() => over() || isNews(), pause);
  }
}

/** True when no client has anything to add. */
export function hasAll(status: StreamStatus | undefined): boolean {
  return status?.full === true && status.active === 0;
}
