/** A stream from a client of our own through the program and a FIFO to a reader of our own. */
import { randomFillSync } from "node:crypto";
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { close, open, read } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import { messageOf } from "../errors.ts";
import { advertisedSize } from "../protocol/export.ts";
import { host } from "../server/host.ts";
import { Client } from "./client.ts";
import { type CheckContext, privateHost } from "./context.ts";
import type { Item } from "./report.ts";

/** Milliseconds that all of it may take. */
const LIMIT = 30_000;

const KiB = 1024;
const MiB = 1024 * KiB;

/** The disk's length in bytes: no whole number of sectors. */
const SIZE = 6 * MiB + 12_345;

/** What the client writes, in order: [offset, length]. Between these there are gaps and zeroes. */
const WRITES: readonly (readonly [number, number])[] = [
  // Small ones, many at a time; one that is spliced; one behind a gap; one behind zeroes.
  ...Array.from({ length: 32 }, (_, i) => [i * 4 * KiB, 4 * KiB] as const),
  [128 * KiB, MiB],
  [2 * MiB + 777, 64 * KiB],
  [4 * MiB, 512 * KiB + 1],
];

/** What it zeroes before the last of these, and at the end. */
const ZEROES: readonly (readonly [number, number])[] = [
  [3 * MiB, MiB],
  [5 * MiB, SIZE - 5 * MiB],
];

/** Runs it. Never throws. */
export async function selfTest(context: CheckContext): Promise<Item> {
  const item = { topic: "self-test", name: "stream" } as const;
  let folder: PrivateFolder | undefined;
  try {
    folder = new PrivateFolder();
    const problem = await streams(folder, context);
    const done = `${SIZE} bytes with gaps and zeroes went through a private server and a FIFO unchanged`;
    return problem === undefined
      ? { ...item, state: "ok", text: done }
      : { ...item, state: "failed", text: problem };
  } catch (error) {
    return { ...item, state: "failed", text: messageOf(error) };
  } finally {
    folder?.remove();
  }
}

/** @returns what is wrong; undefined when all has arrived */
async function streams(folder: PrivateFolder, context: CheckContext): Promise<string | undefined> {
  const disk = new Uint8Array(SIZE);
  for (const [offset, length] of WRITES) randomFillSync(disk, offset, length);
  const path = folder.file("self-test.fifo");
  mkfifo(path, 0o600);
  const reader = new Reader(path);
  try {
    const { why } = await host(
      {
        ...privateHost(context),
        target: { kind: "path", path },
        size: BigInt(SIZE),
        short: "fail",
        entrance: { kind: "unix", path: folder.socket },
      },
      async ({ service, conclude, interrupted }) => {
        const { facts } = service;
        const limit = setTimeout(() => service.abort(), LIMIT);
        try {
          await talk(folder.socket, disk);
          const over = () => facts.ended || context.interruption.caught !== undefined;
          await service.until(() => over() || (facts.streamed && service.open === 0));
          const stopped = context.interruption.caught !== undefined;
          return stopped ? interrupted() : await conclude("clients");
        } finally {
          clearTimeout(limit);
        }
      },
    );
    if (why !== undefined) return `the stream was truncated: ${why}`;
    const { length, digest } = await reader.end();
    if (length !== SIZE) return `${length} bytes have arrived of ${SIZE}`;
    const expected = new Bun.CryptoHasher("sha256").update(disk).digest("hex");
    return digest === expected ? undefined : "what has arrived is not what was written";
  } finally {
    reader.close();
  }
}

async function talk(socket: string, disk: Uint8Array): Promise<void> {
  using client = await Client.connect(socket);
  const size = BigInt(advertisedSize(SIZE));
  if (client.size !== size) throw new Error(`the disk has ${client.size} bytes instead of ${size}`);
  const write = ([offset, length]: readonly [number, number]) => {
    client.write(offset, disk.subarray(offset, offset + length));
  };
  for (const part of WRITES.slice(0, -1)) write(part);
  await client.settle();
  client.writeZeroes(...(ZEROES[0] as [number, number]));
  for (const part of WRITES.slice(-1)) write(part);
  client.writeZeroes(...(ZEROES[1] as [number, number]));
  await client.finish();
}

/** Takes what comes out of a FIFO, without ever waiting in the kernel. */
class Reader {
  readonly #fd: number;
  readonly #hash = new Bun.CryptoHasher("sha256");
  readonly #memory = new Memory(MiB);
  #length = 0;
  #closed = false;
  readonly #done: Promise<void>;

  constructor(path: string) {
    this.#fd = open(path, O_RDONLY | O_NONBLOCK);
    this.#done = this.#run();
    // It is asked for later, or not at all.
    this.#done.catch(() => {});
  }

  /** Resolves at the end of the stream. */
  async end(): Promise<{ readonly length: number; readonly digest: string }> {
    await this.#done;
    return { length: this.#length, digest: this.#hash.digest("hex") };
  }

  close(): void {
    if (!this.#closed) close(this.#fd);
    this.#closed = true;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const n = read(this.#fd, this.#memory.at(0), this.#memory.length);
      // Before the first writer there is end of file, too.
      if (n === 0 && this.#length > 0) return;
      if (n > 0) {
        this.#hash.update(this.#memory.bytes.subarray(0, n));
        this.#length += n;
      }
      await Bun.sleep(n > 0 ? 0 : 1);
    }
  }
}
