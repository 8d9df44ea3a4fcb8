import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { startSinkCommand } from "../../../src/endpoint/opening/command.ts";
import { closeHandle } from "../../../src/endpoint/opening/endpoint.ts";
import { statOf } from "../../../src/process/proc.ts";
import { LIMIT } from "../../support/limit.ts";
import { WAIT_LIMIT } from "../../support/program.ts";
import { tempFolder } from "../../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** Blocks the thread, so that nothing here can notice it, until the command that writes its id there has ended. */
function untilEnded(pidFile: string): void {
  const deadline = performance.now() + WAIT_LIMIT;
  const hasEnded = () => {
    const pid = existsSync(pidFile) ? readFileSync(pidFile, "latin1").trim() : "";
    return pid !== "" && statOf(Number(pid))?.[0] === "Z";
  };
  while (!hasEnded()) {
    if (performance.now() > deadline) throw new Error("the command has not ended");
    Bun.sleepSync(5);
  }
}

test.each([
  [0, "it has succeeded", undefined],
  [3, "it has failed with that", /^exec:.* failed with status 3$/],
])(
  "where there is no time left for a command that has just ended with status %d, %s",
  async (status, _, problem) => {
    const pid = folder.file(`pid${status}`);
    const endpoint = startSinkCommand(`echo $$ > '${pid}'; exit ${status}`, {}, () => {});
    closeHandle(endpoint.handle);
    untilEnded(pid);
    try {
      const found = await endpoint.waitForExit(AbortSignal.abort());
      if (problem === undefined) expect(found).toBeUndefined();
      else expect(found).toMatch(problem);
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
