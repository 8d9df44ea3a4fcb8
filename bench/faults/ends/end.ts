/** What the processes that take part in a run have in common: what they are told, and what they tell. */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Deed } from "../case.ts";

/** The files by which a process and the harness talk. */
export interface Talk {
  /** Where the process tells how far it is. */
  readonly state: string;
  /** It may go on when this is there. */
  readonly gate: string;
}

/** What a process has told of itself. */
export interface State {
  readonly pid: number;
  /** That have gone by. */
  readonly bytes: number;
  /** Of these; empty before it is at its turn or its end. */
  readonly sha256: string;
  /** What it did, or is about to do, at its turn. */
  readonly did?: Deed | "finish";
  /** How its stream ended, as it sees it. */
  readonly end?: "an ordinary end" | "an error";
}

const POLL_MS = 2;

/** The first argument of a process. */
export function planned<Plan>(): Plan {
  return JSON.parse(process.argv[2] ?? "") as Plan;
}

/** Whoever looks sees all of it or nothing. */
export function tell({ state }: Talk, told: Omit<State, "pid">): void {
  const path = `${state}.${process.pid}`;
  writeFileSync(path, JSON.stringify({ pid: process.pid, ...told }));
  renameSync(path, state);
}

export function heard(state: string): State | undefined {
  return existsSync(state) ? (JSON.parse(readFileSync(state, "utf8")) as State) : undefined;
}

/** What a process does that does nothing else meanwhile. */
export function perform(deed: Deed, { gate }: Talk, status = 0): void {
  switch (deed) {
    case "leave":
      return process.exit(status);
    case "kill":
      process.kill(process.pid, "SIGKILL");
      return Bun.sleepSync(60_000);
    case "stop":
      for (;;) Bun.sleepSync(60_000);
    case "wait":
      while (!existsSync(gate)) Bun.sleepSync(POLL_MS);
  }
}

/** Repeats what a descriptor that does not wait has refused (EAGAIN). */
export function patiently<T>(call: () => T): T {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      Bun.sleepSync(1);
    }
  }
}
