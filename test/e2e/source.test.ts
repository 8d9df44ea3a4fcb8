/** The program from its sources, as a checkout starts it; the other tests start the binary of these. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { LIMIT } from "../support/limit.ts";
import { qcow2Image } from "../support/images.ts";
import { command, SOURCE, start } from "../support/program.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

test("the sources stream the exact disk from qemu-img", async () => {
  const { path, sha256 } = await qcow2Image(folder.file("disk.qcow2"), 16 * 1024 * 1024);
  const convert = ["--", "qemu-img", "convert", "-n", "-O", "raw", path, "$nbd"];
  expect(await streamed(convert, { program: SOURCE })).toBe(sha256);
  expect(await streamed([path], { program: SOURCE })).toBe(sha256);
});

test("the sources check the machine and try themselves", async () => {
  expect(await command([...SOURCE, "check"])).toEndWith("\n\nall is well\n");
});

test("the sources find how a client streams", async () => {
  const words = ["check", "--", "qemu-io", "-f", "raw", "-c", "write -P 1 0 64k", "$nbd"];
  expect(await command([...SOURCE, ...words])).toContain("nbd-streaming run pipe=disk.fifo -- ");
});

test("the sources end a stream whose client fails, and say so", async () => {
  const words = ["run", "pipe=exec:cat >/dev/null", "size=1M", "--", "false"];
  await using program = start([...SOURCE, ...words]);
  const { status, stderr } = await program.ended();
  expect(status).toBe(1);
  expect(stderr).toContain("truncated: ");
});
