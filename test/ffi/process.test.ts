import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { command, start } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** How a child process and its orphaned grandchild get on. */
async function orphansOf(...args: string[]): Promise<{ self: number; parent: number }> {
  const script = join(import.meta.dir, "orphan.child.ts");
  return JSON.parse(await command([process.execPath, script, ...args]));
}

test("an orphan becomes the child of the process that adopts orphans", async () => {
  const { self, parent } = await orphansOf("adopt");
  expect(parent).toBe(self);
});

test("an orphan goes elsewhere when the process has not asked for it", async () => {
  const { self, parent } = await orphansOf();
  expect(parent).not.toBe(self);
});

test.each([
  ["ends with SIGTERM", "ask", /^ready\nSIGTERM\n$/],
  ["goes on, unless it has asked for that,", "do not ask", /^ready\norphaned\n$/],
])("a process %s when its parent is killed", async (_, how, said) => {
  const script = join(import.meta.dir, "parent.child.ts");
  const line = '"$0" "$1" "$2" & wait';
  await using parent = start(["sh", "-c", line, process.execPath, script, how], { group: true });
  await parent.saying(/ready/);
  parent.process.kill("SIGKILL");
  expect((await parent.ended()).stderr).toMatch(said);
});
