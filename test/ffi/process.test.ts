import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { command } from "../support/program.ts";
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
