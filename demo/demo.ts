/**
 * The main job, to look at: a disk with data and holes goes through a FIFO. It is a qcow2 where there
 * is qemu-img; where there is not, a client of our own writes one.
 */
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { mkfifo } from "../ffi/pipe.ts";
import { expectedSha256, SIZE } from "./disk.ts";

const ROOT = join(import.meta.dir, "..");
const MAIN = join(ROOT, "src/main.ts");
const CLIENT = join(import.meta.dir, "client.ts");

/** What is streamed. */
interface Subject {
  /** The command that writes it. */
  readonly client: readonly string[];
  /** The command, as it is shown. */
  readonly shown: readonly string[];
  /** What the digest is compared with. */
  readonly of: string;
  readonly sha256: () => Promise<string> | string;
}

const folder = mkdtempSync(join(tmpdir(), "nbd-streaming-demo-"));
let status = 1;
try {
  status = (await demonstrate()) ? 0 : 1;
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
// Whoever still waits for the other end of the FIFO would keep the process.
process.exit(status);

async function demonstrate(): Promise<boolean> {
  const hasQemu = ["qemu-img", "qemu-io"].every((name) => Bun.which(name) !== null);
  const { client, shown, of, sha256 } = hasQemu ? await qcow2() : ownDisk();
  const fifo = join(folder, "disk.fifo");

  mkfifo(fifo, 0o600);
  const streamed = sha256Of(fifo);
  const line = ["run", `pipe=${fifo}`, `size=${SIZE / 1024 / 1024}M`, "--"];
  say(`nbd-streaming ${[...line, ...shown].join(" ").replace(/\$\w+/, "'$&'")}`);
  const started = performance.now();
  await execute(process.execPath, MAIN, ...line, ...client);
  const seconds = (performance.now() - started) / 1000;

  const [out, expected] = [await streamed, await sha256()];
  const width = Math.max("came out of the FIFO".length, of.length) + 1;
  say(`${"came out of the FIFO:".padEnd(width)} ${out} (in ${seconds.toFixed(2)} s)`);
  say(`${`${of}:`.padEnd(width)} ${expected}`);
  say(out === expected ? "the digests agree" : "THE DIGESTS DIFFER");
  return out === expected;
}

async function qcow2(): Promise<Subject> {
  const image = join(folder, "disk.qcow2");
  const raw = join(folder, "disk.raw");
  const size = `${SIZE / 1024 / 1024}M`;
  say(`making ${image}: ${size} with data at the start, in the middle and near the end`);
  await execute("qemu-img", "create", "-q", "-f", "qcow2", image, size);
  const islands = ["write -q -P 1 0 8M", "write -q -P 2 100M 32M", "write -q -P 3 250M 64k"];
  await execute("qemu-io", "-f", "qcow2", ...islands.flatMap((write) => ["-c", write]), image);
  await execute("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw);
  const client = ["qemu-img", "convert", "-n", "-f", "qcow2", image, "-O", "raw", "$nbd"];
  return { client, shown: client, of: "the raw image", sha256: () => sha256Of(raw) };
}

function ownDisk(): Subject {
  say("there is no qemu-img here: a small client of the demo's own writes a disk");
  say("with the package qemu-utils the same is done from a qcow2, by qemu-img");
  const words = (script: string) => [script, "$unixsocket"];
  return {
    client: [process.execPath, ...words(CLIENT)],
    shown: ["bun", ...words(relative(ROOT, CLIENT))],
    of: "the disk",
    sha256: expectedSha256,
  };
}

function say(line: string): void {
  console.log(`demo: ${line}`);
}

async function execute(...cmd: string[]): Promise<void> {
  const code = await Bun.spawn({ cmd, stdio: ["ignore", "inherit", "inherit"] }).exited;
  if (code !== 0) throw new Error(`${cmd[0]} failed with status ${code}`);
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
