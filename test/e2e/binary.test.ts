/** The compiled program, far from its sources and in a folder full of traps. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commitAll, copyCheckout, shown } from "../support/checkout.ts";
import { qcow2Image } from "../support/images.ts";
import { command, ROOT, start } from "../support/program.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const binary = folder.file("nbd-streaming");
let commit = "unknown: made of no git checkout";

beforeAll(async () => {
  const copy = folder.file("checkout");
  copyCheckout(copy);
  if (Bun.which("git") !== null) commit = shown(await commitAll(copy));
  await command([process.execPath, "run", "build"], { cwd: copy });
  renameSync(join(copy, "dist/nbd-streaming"), binary);
  rmSync(copy, { recursive: true });
});

/** A folder whose files break whatever heeds them. */
function hostileFolder(): string {
  const path = folder.file("hostile");
  mkdirSync(path, { recursive: true });
  const files = {
    "bunfig.toml": 'preload = ["./missing.ts"]\n',
    ".env": "TMPDIR=/nonexistent\nPATH=/nonexistent\n",
    "package.json": "{ not JSON",
    "tsconfig.json": "{ not JSON",
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

/** Where it starts; what the environment does not have, a heeded `.env` would set. */
const hostile = () => ({ cwd: hostileFolder(), env: { TMPDIR: undefined } });

test("the binary streams the exact disk from qemu-img", async () => {
  const { path, sha256 } = await qcow2Image(folder.file("disk.qcow2"), 16 * 1024 * 1024);
  const convert = ["--", "qemu-img", "convert", "-n", "-O", "raw", path, "$nbd"];
  expect(await streamed(convert, { program: [binary], ...hostile() })).toBe(sha256);
  expect(await streamed([path], { program: [binary], ...hostile() })).toBe(sha256);
});

test("the binary tells its version, and the commit that it was built of", async () => {
  await using program = start([binary, "--version"], hostile());
  const { version } = await Bun.file(join(ROOT, "package.json")).json();
  expect(await program.ended()).toEqual({
    status: 0,
    stdout: `nbd-streaming ${version} (commit ${commit})\n`,
    stderr: "",
  });
});

test("the binary checks the machine and tries itself", async () => {
  await using program = start([binary, "check"], hostile());
  const { status, stdout, stderr } = await program.ended();
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toMatch(/ok +read= +\d+ bytes .* unchanged\n\nall is well\n$/);
});

test("the binary finds how a client streams", async () => {
  const words = ["check", "--", "qemu-io", "-f", "raw", "-c", "write -P 1 0 64k", "$nbd"];
  await using program = start([binary, ...words], hostile());
  const { status, stdout } = await program.ended();
  expect(status).toBe(0);
  const line = "nbd-streaming run pipe=disk.fifo -- qemu-io -f raw -c 'write -P 1 0 64k' '$nbd'";
  expect(stdout).toEndWith(`${line}\n`);
});

test("the binary prints its man page and completions", async () => {
  const page = await Bun.file(join(ROOT, "man/nbd-streaming.1")).text();
  expect(await command([binary, "man"], hostile())).toBe(page);
  const script = await command([binary, "completions", "bash"], hostile());
  expect(script).toContain("complete -F _nbd_streaming nbd-streaming\n");
});
