/** The end of a stream when nobody says any more that there is something to come. */
import type { StreamStatus } from "../stream/messages.ts";
import type { StreamServer } from "./stream-server.ts";

/** Milliseconds of silence after which nobody is waited for any more. */
const SILENCE = 500;
/**
 * Milliseconds in which the stream has to move, whatever is said meanwhile: somebody who negotiates, or
 * only asks, again and again would keep it from its end for ever.
 */
const STANDSTILL = 10_000;
/** Milliseconds between two looks: the first is for who is just about to leave. */
const FIRST_LOOK = 5;
const LAST_LOOK = 50;

/** Who may still change the stream. */
export interface Remaining {
  /** Clients are connected. */
  readonly connected: boolean;
  /** Somebody is connected who has not chosen the export. */
  readonly negotiating: boolean;
  /** A client was lost, and may come back (`--reconnect`). */
  readonly awaited: boolean;
  /** Processes that may connect, by `name (process id)`. */
  readonly processes: readonly string[];
}

export interface DrainOptions {
  /** True when there is nothing to wait for, whoever remains. */
  readonly over: () => boolean;
  /** Who lives and may connect; asked only when that matters. */
  readonly processes: () => readonly string[];
  /** Of those who negotiate, only the first so many that have ever come; undefined is all. */
  readonly visitors?: number;
}

/**
 * Waits until nobody remains who could change the stream, and goes on listening meanwhile. Whoever
 * remains is waited for as long as something happens: somebody comes, negotiates, or says something, or
 * the stream waits for its endpoint. A stream that has all that it can have waits only for clients that
 * have had a part in it.
 *
 * @returns who remains when nothing has happened for a while; undefined when nobody does
 */
export async function drain(
  server: StreamServer,
  { over, processes, visitors }: DrainOptions,
): Promise<Remaining | undefined> {
  const { state } = server;
  const begun = performance.now();
  let [heard, moved, seen] = [begun, begun, server.visitors];
  for (let pause = FIRST_LOOK; ; pause = Math.min(2 * pause, LAST_LOOK)) {
    await server.acceptAll();
    if (over()) return undefined;
    if (server.open === 0 && !state.awaited && server.isThrough) return undefined;
    const negotiating = server.negotiating(visitors);
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
      // Whoever has come, asked, and gone may be followed by somebody who does more.
      if (visitors === undefined && server.visitors > seen) heard = now;
    }
    seen = server.visitors;
    if (now - heard >= SILENCE || now - moved >= STANDSTILL) {
      return { ...clients, processes: processes() };
    }
    const { open } = server;
    const isNews = () =>
      server.open !== open || server.negotiating(visitors).count !== negotiating.count;
    await server.until(() => over() || isNews(), pause);
  }
}

/** True when nobody has anything to add. */
export function hasAll(status: StreamStatus | undefined): boolean {
  return status?.full === true && status.active === 0;
}
