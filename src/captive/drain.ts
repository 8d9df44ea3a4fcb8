/** Waits for the clients that a command has left behind, and for processes that may become clients. */
import { readFileSync } from "node:fs";
import type { Notice } from "../messages/notice.ts";
import type { SpoolPath } from "../files/spool-path.ts";
import { statOf } from "../process/proc.ts";
import type { ProcessTree } from "../process/process-tree.ts";
import { drain, type Remaining } from "../server/drain.ts";
import type { StreamServer } from "../server/stream-server.ts";

/** The most searches in a row that find only processes that have just ended. */
const TRIES = 8;

/** A process's name (proc(5), comm); undefined if it has ended. */
function nameOf(pid: number): string | undefined {
  try {
    // The name may contain any bytes, such as line feeds.
    return readFileSync(`/proc/${pid}/comm`, "latin1")
      .trimEnd()
      .replace(/[^ -~]/g, "?");
  } catch {
    return undefined;
  }
}

/** The name and number of a process that has been found. If it has just ended, it may have started another. */
function called(pid: number): string {
  return `${nameOf(pid) ?? "a process"} (${pid})`;
}

function lives(pid: number): boolean {
  const [state = "X"] = statOf(pid) ?? [];
  return state !== "Z" && state !== "X";
}

/** The processes of a tree whose command has ended. */
export class Survivors {
  readonly #tree: ProcessTree;
  readonly #spool: SpoolPath | undefined;
  #known: readonly number[] = [];

  /** @param spool the stream's disk as a file: whoever has it open has not ended with the command */
  constructor(tree: ProcessTree, spool?: SpoolPath) {
    this.#tree = tree;
    this.#spool = spool;
  }

  /** The living ones, as `name (process id)`; if /proc is not readable, none but who has the file open. */
  list(): string[] {
    // Searches all of /proc only when no known process lives.
    this.#known = this.#known.filter(lives);
    if (this.#known.length === 0) this.#known = this.#find();
    if (this.#known.length > 0) return this.#known.map(called);
    const users = this.#spool?.users() ?? [];
    return users === "unseen" ? ["a process that has $spool open"] : users.map(called);
  }

  #find(): readonly number[] {
    try {
      for (let left = TRIES; left > 0; left--) {
        const found = this.#tree.search();
        const living = found.filter(lives);
        if (living.length > 0 || found.length === 0) return living;
      }
    } catch {
      // /proc is not readable.
    }
    return [];
  }
}

/**
 * Waits as long as something happens; then ends the connections, and notes in the state what was left.
 *
 * @param over returns true when there is nothing to wait for
 */
export async function drainCaptive(
  server: StreamServer,
  survivors: Survivors,
  over: () => boolean,
): Promise<void> {
  do {
    const remaining = await drain(server, { over, processes: () => survivors.list() });
    if (remaining !== undefined) {
      server.state.leftBehind = leftBehind(remaining, server);
      await server.dismiss("all");
      return await server.giveUpLost();
    }
    if (over() || server.open === 0) return;
    // The clients that are left have moved nothing; one that has just begun stays.
    await server.dismiss("silent");
  } while (!over() && server.open > 0);
}

/** @returns undefined where only a lost client was waited for, which is reported otherwise */
function leftBehind(
  { connected, negotiating, processes: left }: Remaining,
  { size, counters, phase }: StreamServer,
): Notice | undefined {
  const client = connected ? "connected" : negotiating ? "negotiating" : undefined;
  if (client === undefined && left.length === 0) return undefined;
  const held = phase === "holding";
  return { code: "LEFT_BEHIND", processes: left, client, emitted: counters.emitted, size, held };
}
