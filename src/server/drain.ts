/** Waits for the clients that may still change a stream whose end has come. */
import type { StreamStatus } from "../stream/messages.ts";
import type { StreamServer } from "./stream-server.ts";

/** Milliseconds of silence after which clients are not waited for any more. */
const SILENCE = 500;
/**
 * Milliseconds in which the stream has to move, whatever clients do: a client that negotiates, or only
 * queries, again and again must not delay the end for ever.
 */
export const STANDSTILL = 10_000;
/** Milliseconds between two checks; the first is short, for a client that is just about to leave. */
const FIRST_LOOK = 5;
const LAST_LOOK = 50;

/** Clients and processes that may still change the stream. */
export interface Remaining {
  readonly connected: boolean;
  /** A client has not chosen the export yet. */
  readonly negotiating: boolean;
  /** A client was lost, and may come back (`--reconnect`). */
  readonly awaited: boolean;
  /** Processes that may connect, as `name (process id)`. */
  readonly processes: readonly string[];
}

export interface DrainOptions {
  /** True when waiting is over, whatever remains. */
  readonly over: () => boolean;
  /** Live processes that may connect; called only when that matters. */
  readonly processes: () => readonly string[];
  /** Waits only for negotiating clients among so many connections, the first ones; undefined is all. */
  readonly accepted?: number;
}

/**
 * Waits until nothing remains that could change the stream, and listens meanwhile. It waits as long as
 * something happens: a client connects, negotiates or sends something, or the stream waits for its endpoint.
 * A stream that is full waits only for active clients.
 *
 * @returns what remains after {@link SILENCE} or {@link STANDSTILL}; undefined when nothing does
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
    const isGone = areAllRepeated(server, status) && processes().length === 0;
    if (state.streamed && !state.awaited && (hasAll(status) || isGone)) return undefined;
    const now = performance.now();
    if (status === undefined || status.waitsForEndpoint || status.moved) {
      heard = moved = now;
    } else {
      heard = Math.max(heard, now - Math.min(status.silence, negotiating.silence));
      // A client that connects, queries and leaves may be followed by one that does more.
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

/**
 * True when the clients of all connections have come back on others, which have ended (`--reconnect`): nothing
 * comes on these any more.
 */
export function areAllRepeated(server: StreamServer, status: StreamStatus | undefined): boolean {
  const { open } = server;
  return open > 0 && status?.repeated === open && server.negotiating().count === 0;
}

/** True when the stream is full and no client is active. */
export function hasAll(status: StreamStatus | undefined): boolean {
  return status?.full === true && status.active === 0;
}
