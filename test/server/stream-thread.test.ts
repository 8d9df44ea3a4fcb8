import { expect, setDefaultTimeout, test } from "bun:test";
import { StreamThread } from "../../src/server/stream-thread.ts";
import type { StreamPlan } from "../../src/stream/messages.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** A thread whose first answers come too late. */
async function withSlowThread(ask: (thread: StreamThread) => Promise<void>): Promise<void> {
  const thread = new StreamThread({
    workerUrl: new URL("slow-thread.child.ts", import.meta.url),
    // Of no interest to it.
    plan: {} as StreamPlan,
    stays: false,
    onEvent: () => {},
    onCrash: (error) => expect(error).toBeUndefined(),
  });
  try {
    await ask(thread);
  } finally {
    thread.send({ type: "abort" });
    await thread.join();
  }
}

test("an answer that comes too late is not taken for that of the next question", () =>
  withSlowThread(async (thread) => {
    // The first may be in time where this thread is late, too.
    const first = await thread.status();
    if (first !== undefined) expect(first.active).toBe(1);
    for (let number = 2; number < 5; number++) {
      const status = await thread.status();
      if (status !== undefined) expect(status.active).toBe(number);
    }
  }));

test("nor is that about an idle client", () =>
  withSlowThread(async (thread) => {
    await thread.evictIdle();
    expect(await thread.evictIdle()).toBeFalse();
  }));
