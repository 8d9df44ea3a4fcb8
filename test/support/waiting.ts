/** Processes that wait in open(2) for the other end of a FIFO. */
import type { Direction } from "../../src/endpoint/spec.ts";
import { pipeUsers } from "../../src/process/pipe-users.ts";
import { type Ended, eventually, type Running, start } from "./program.ts";

/** The process at the other end of a FIFO, which waits in open(2). */
export interface Waiting extends AsyncDisposable {
  readonly running: Running;
  /** True while it waits. */
  readonly waits: boolean;
  /** Its end; standard output is what it has read. */
  ended(): Promise<Ended>;
}

/** Starts one, and waits until it waits. */
export async function waitingAt(fifo: string, direction: Direction): Promise<Waiting> {
  const line = direction === "write" ? 'exec cat < "$0"' : 'exec head -c 1M /dev/zero > "$0"';
  const running = start(["sh", "-c", line, fifo]);
  const waits = () => pipeUsers(fifo).waiting.some(({ pid }) => pid === running.process.pid);
  await eventually(waits, "somebody to wait in open(2)");
  return {
    running,
    get waits() {
      return waits();
    },
    ended: () => running.ended(),
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}
