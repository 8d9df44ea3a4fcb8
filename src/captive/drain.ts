/** What a command has left behind when it ended: clients, and processes that may become clients. */
import { readFileSync } from "node:fs";
import type { Notice } from "../messages/notice.ts";
import { processes, statOf } from "../process/proc.ts";
import type { ProcessTree } from "../process/process-tree.ts";
import { drain, type Remaining } from "../server/drain.ts";
import type { StreamServer } from "../server/stream-server.ts";

/** Times that /proc is gone through while processes in it come and go. */
const TRIES = 3;

/** A process's name (proc(5), comm); undefined if it is no more. */
function nameOf(pid: number): string | undefined {
  try {
    // Anything may stand in it, the end of a line too.
    return readFileSync(`/proc/${pid}/comm`, "latin1")
      .trimEnd()
      .replace(/[^ -~]/g, "?");
  } catch {
    return undefined;
  }
}

function lives(pid: number): boolean {
  const [state = "X"] = statOf(pid) ?? [];
  return state !== "Z" && state !== "X";
}

/** The processes of a tree that has lost its leader. */
export class Survivors {
  readonly #tree: ProcessTree;
  #known: readonly number[] = [];

  constructor(tree: ProcessTree) {
    this.#tree = tree;
  }

  /** Those that live, by `name (process id)`; none where /proc does not tell. */
  list(): string[] {
    // All of /proc is gone through only when no process is known to live.
    this.#known = this.#known.filter(lives);
    if (this.#known.length === 0) this.#known = this.#find();
    return this.#known.flatMap((pid) => {
      const name = nameOf(pid);
      return name === undefined ? [] : [`${name} (${pid})`];
    });
  }

  #find(): readonly number[] {
    try {
      for (let left = TRIES; left > 0; left--) {
        const before = processes();
        const found = this.#tree.members().filter(lives);
        if (found.length > 0) return found;
        // One that was seen, and is gone, may have started another that was not there yet.
        const after = new Set(processes());
        if (before.every((pid) => after.has(pid))) return [];
      }
    } catch {
      // There is no /proc, or not for us.
    }
    return [];
  }
}

export interface CaptiveDrainOptions {
  readonly server: StreamServer;
  readonly survivors: Survivors;
  /** True when there is nothing to wait for. */
  readonly over: () => boolean;
}

/**
 * Waits for clients, and for processes that may become clients, as long as something happens; then ends
 * their connections. What remains is in the state.
 */
export async function drainCaptive({
  server,
  survivors,
  over,
}: CaptiveDrainOptions): Promise<void> {
  const { state } = server;
  for (;;) {
    const remaining = await drain(server, { over, processes: () => survivors.list() });
    if (remaining !== undefined) {
      state.leftBehind = leftBehind(remaining, server);
      await server.dismiss("all");
      await server.giveUpLost();
    }
    if (remaining !== undefined || over() || server.open === 0) return;
    // All that is left has moved nothing; one that has begun in this very moment stays.
    await server.dismiss("silent");
    if (over() || server.open === 0) return;
  }
}

/** @returns undefined where only a lost client was waited for, of which there is more to tell */
function leftBehind(
  { connected, negotiating, processes: left }: Remaining,
  { size, counters }: StreamServer,
): Notice | undefined {
  const client = connected ? "connected" : negotiating ? "negotiating" : undefined;
  if (client === undefined && left.length === 0) return undefined;
  return { code: "LEFT_BEHIND", processes: left, client, emitted: counters.emitted, size };
}
