/** The main job, to look at: a qcow2 image with data and holes goes through a FIFO. */
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mkfifo } from "../ffi/pipe.ts";

const MAIN = join(import.meta.dir, "../src/main.ts");
const SIZE = "256M";

if (Bun.which("qemu-img") === null || Bun.which("qemu-io") === null) {
  console.error(
    "demo: qemu-img is missing: install the package qemu-utils (apt install qemu-utils)",
  );
  process.exit(127);
}

const folder = mkdtempSync(join(tmpdir(), "nbd-streaming-demo-"));
try {
  process.exitCode = (await demonstrate()) ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function demonstrate(): Promise<boolean> {
  const image = join(folder, "disk.qcow2");
  const raw = join(folder, "disk.raw");
  const fifo = join(folder, "disk.fifo");

  say(`making ${image}: ${SIZE} with data at the start, in the middle and near the end`);
  await execute("qemu-img", "create", "-q", "-f", "qcow2", image, SIZE);
  const islands = ["write -q -P 1 0 8M", "write -q -P 2 100M 32M", "write -q -P 3 250M 64k"];
  await execute("qemu-io", "-f", "qcow2", ...islands.flatMap((write) => ["-c", write]), image);
  await execute("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw);

  mkfifo(fifo, 0o600);
  const streamed = sha256(fifo);
  const line = ["run", `pipe=${fifo}`, `size=${SIZE}`, "--"];
  const client = ["qemu-img", "convert", "-n", "-f", "qcow2", image, "-O", "raw", "$nbd"];
  say(`nbd-streaming ${[...line, ...client].join(" ").replace("$nbd", "'$nbd'")}`);
  const started = performance.now();
  await execute(process.execPath, MAIN, ...line, ...client);
  const seconds = (performance.now() - started) / 1000;

  const [out, expected] = [await streamed, await sha256(raw)];
  say(`came out of the FIFO: ${out} (in ${seconds.toFixed(2)} s)`);
  say(`the raw image:        ${expected}`);
  say(out === expected ? "the digests agree" : "THE DIGESTS DIFFER");
  return out === expected;
}

function say(line: string): void {
  console.log(`demo: ${line}`);
}

async function execute(...cmd: string[]): Promise<void> {
  const status = await Bun.spawn({ cmd, stdio: ["ignore", "inherit", "inherit"] }).exited;
  if (status !== 0) throw new Error(`${cmd[0]} failed with status ${status}`);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
