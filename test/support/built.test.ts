import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { appendFileSync, copyFileSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { builtProgram } from "./built.ts";
import { copyCheckout } from "./checkout.ts";
import { LIMIT } from "./limit.ts";
import { command, ROOT } from "./program.ts";
import { tempFolder } from "./temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const checkout = folder.file("checkout");
const cache = join(checkout, "node_modules/.cache/nbd-streaming-test");

beforeAll(() => {
  copyCheckout(checkout);
  copyFileSync(join(ROOT, "tsconfig.json"), join(checkout, "tsconfig.json"));
});

/** Makes what is not there in another process, as another test run would. */
function byAnother(): Promise<string> {
  const code = `process.stdout.write((await import("./built.ts")).builtProgram("${checkout}"))`;
  return command([process.execPath, "-e", code], { cwd: import.meta.dir });
}

test("two test runs at once get the same binary, which works", async () => {
  const [one, other] = await Promise.all([byAnother(), byAnother()]);
  expect(one).toBe(other);
  expect(readdirSync(cache)).toEqual([basename(one)]);
  expect(await command([one, "--version"])).toStartWith("nbd-streaming ");
  expect(builtProgram(checkout)).toBe(one);
});

test.each(["src/main.ts", "package.json", "node_modules/citty/dist/index.mjs"])(
  "a change of %s makes another one",
  async (name) => {
    const before = builtProgram(checkout);
    appendFileSync(join(checkout, name), "\n");
    const after = builtProgram(checkout);
    expect(after).not.toBe(before);
    expect(builtProgram(checkout)).toBe(after);
    // Another run may be using it.
    expect(readdirSync(cache)).toContain(basename(before));
  },
);

test("one that was not used for long is removed when another is made", () => {
  const [kept, old] = readdirSync(cache) as [string, string];
  utimesSync(join(cache, old), 0, 0);
  appendFileSync(join(checkout, "src/main.ts"), "\n");
  builtProgram(checkout);
  expect(readdirSync(cache)).toContain(kept);
  expect(readdirSync(cache)).not.toContain(old);
});

test("sources that cannot be built are told", () => {
  writeFileSync(join(checkout, "src/main.ts"), "import {");
  expect(() => builtProgram(checkout)).toThrow(
    /^the binary for the tests cannot be made: .*error/s,
  );
});
