import { expect, setDefaultTimeout, test } from "bun:test";
import { startSinkCommand } from "../../../src/endpoint/opening/command.ts";
import { closeHandle } from "../../../src/endpoint/opening/endpoint.ts";
import { processes, statOf } from "../../../src/process/proc.ts";
import { LIMIT } from "../../support/limit.ts";
import { WAIT_LIMIT } from "../../support/program.ts";

setDefaultTimeout(LIMIT);

/** Blocks the thread, so that nothing here can notice it, until a child of this process has ended. */
function untilChildEnds(): void {
  const deadline = performance.now() + WAIT_LIMIT;
  const hasEnded = (pid: number) => {
    const [state, parent] = statOf(pid) ?? [];
    return state === "Z" && Number(parent) === process.pid;
  };
  while (!processes().some(hasEnded)) {
    if (performance.now() > deadline) throw new Error("no child has ended");
    Bun.sleepSync(5);
  }
}

test.each([
  ["0, it has succeeded", "exit 0", undefined],
  ["3, it has failed with that", "exit 3", "exec:exit 3 failed with status 3"],
])(
  "where there is no time left for a command that has just ended with status %s",
  async (_, line, problem) => {
    const endpoint = startSinkCommand(line, {}, () => {});
    closeHandle(endpoint.handle);
    untilChildEnds();
    try {
      expect(await endpoint.waitForExit(AbortSignal.abort())).toBe(problem as string);
    } finally {
      endpoint.remove();
    }
  },
);

test("where there is no time left for a command that still runs, it is killed", async () => {
  const endpoint = startSinkCommand("exec sleep 300", {}, () => {});
  closeHandle(endpoint.handle);
  try {
    const problem = await endpoint.waitForExit(AbortSignal.abort());
    expect(problem).toBe("exec:exec sleep 300 was ended before it was done");
  } finally {
    endpoint.remove();
  }
});
