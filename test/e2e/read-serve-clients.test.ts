/** Clients of `serve read=`: real ones, after others that only ask, and one with simple replies. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { NBD_CMD_READ } from "../../src/protocol/constants.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeRequest } from "../support/wire.ts";
import { command, type Running, startProgram } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { feedFifo } from "../support/writer.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(folder.file("disk.raw"), 5 * MiB);
});

describe.each([{ transport: "a Unix socket" }, { transport: "TCP" }])(
  "over $transport",
  ({ transport }) => {
    const copies = [
      { client: "nbdcopy", copy: (uri: string, out: string) => ["nbdcopy", uri, out] },
      {
        client: "qemu-img",
        copy: (uri: string, out: string) => ["qemu-img", "convert", "-O", "raw", uri, out],
      },
    ];
    test.each(copies)("$client gets the exact disk after nbdinfo, twice", async ({ copy }) => {
      await using served = await serve(transport);
      expect((await command(["nbdinfo", "--size", served.uri])).trim()).toBe(String(disk.size));
      const info = JSON.parse(await command(["nbdinfo", "--json", "--map", served.uri]));
      expect(info).toEqual([{ offset: 0, length: disk.size, type: 0, description: "data" }]);
      await command([...copy(served.uri, served.file("out"))]);
      expect(await served.program.ended()).toMatchObject({ status: 0 });
      expect(await digestFile(served.file("out"))).toBe(disk.sha256);
    });

    test("nbdinfo tells what the disk is, and can look into it", async () => {
      await using served = await serve(transport);
      const [info] = JSON.parse(await command(["nbdinfo", "--json", served.uri])).exports;
      // It has file(1) look into it, where there is one.
      if (Bun.which("file") !== null) expect(info.content).toBe("data");
      expect(info).toMatchObject({
        "export-size": disk.size,
        is_read_only: true,
        can_multi_conn: false,
        can_df: true,
        contexts: ["base:allocation"],
      });
      expect(served.program.process.exitCode).toBeNull();
      await command(["nbdcopy", served.uri, served.file("out")]);
      expect(await served.program.ended()).toMatchObject({ status: 0 });
      expect(await digestFile(served.file("out"))).toBe(disk.sha256);
    });
  },
);

describe("a client with simple replies", () => {
  test.each([
    { title: "in one piece", piece: 5 * MiB },
    { title: "by the mebibyte", piece: MiB },
    { title: "in pieces that are spliced", piece: 256 * KiB },
    { title: "in pieces of an odd length", piece: 100_003 },
    { title: "in small pieces", piece: 4 * KiB },
  ])("reads the exact disk $title", async ({ piece }) => {
    await using served = await serve();
    using client = await RawClient.transmission(served.address);
    const hash = createHash("sha256");
    for (const [at, length] of pieces(piece)) hash.update(await bytes(client.read(at, length)));
    await completes(served, client, hash.digest("hex"));
  });

  test.each([
    { title: "small", piece: 3 * KiB },
    { title: "large", piece: 256 * KiB },
  ])("gets the answers to $title requests that it sends all at once, in order", async (asked) => {
    await using served = await serve();
    using client = await RawClient.transmission(served.address);
    const reads = pieces(asked.piece);
    const hash = createHash("sha256");
    client.send(
      ...reads.map(([at, length]) => {
        return encodeRequest(NBD_CMD_READ, at, length, { cookie: BigInt(at) });
      }),
    );
    for (const [at, length] of reads) {
      expect(await client.reply()).toEqual({ error: 0, cookie: BigInt(at) });
      hash.update(await client.receive(length));
    }
    await completes(served, client, hash.digest("hex"));
  });

  test("goes back in the first 1 MiB, and on", async () => {
    await using served = await serve();
    using client = await RawClient.transmission(served.address);
    const start = await bytes(client.read(0, MiB));
    const rest = await bytes(client.read(MiB, disk.size - MiB));
    const again = await bytes(client.read(0, MiB));
    expect(again.equals(start)).toBeTrue();
    const sha256 = createHash("sha256").update(again).update(rest).digest("hex");
    await completes(served, client, sha256);
  });

  async function completes({ program }: Served, client: RawClient, sha256: string): Promise<void> {
    client.disconnect();
    expect(await program.ended()).toMatchObject({ status: 0 });
    expect(sha256).toBe(disk.sha256);
  }
});

test("a client of a disk of no bytes has had all of it when it disconnects", async () => {
  using place = tempFolder();
  await Bun.write(place.file("empty"), "");
  const words = ["serve", `read=${place.file("empty")}`, "-U", place.file("nbd.sock")];
  await using program = startProgram(words);
  await program.saying(/listening on/);
  await command(["nbdcopy", `nbd+unix:///?socket=${place.file("nbd.sock")}`, place.file("out")]);
  expect(await program.ended()).toMatchObject({ status: 0 });
  expect(Bun.file(place.file("out")).size).toBe(0);
});

/** Offset and length of all requests for the disk. */
function pieces(piece: number): [number, number][] {
  return Array.from({ length: Math.ceil(disk.size / piece) }, (_, index) => {
    return [index * piece, Math.min(piece, disk.size - index * piece)];
  });
}

async function bytes(answer: Promise<number | Buffer>): Promise<Buffer> {
  const data = await answer;
  if (typeof data === "number") throw new Error(`READ failed with ${data}`);
  return data;
}

/** A server that reads the disk from a FIFO. */
interface Served extends AsyncDisposable {
  readonly program: Running;
  readonly uri: string;
  /** Where a {@link RawClient} connects. */
  readonly address: string | number;
  file(name: string): string;
}

async function serve(transport = "a Unix socket"): Promise<Served> {
  const stack = new AsyncDisposableStack();
  try {
    const place = stack.use(tempFolder());
    const [fifo, socket] = [place.file("source.fifo"), place.file("nbd.sock")];
    mkfifo(fifo, 0o600);
    stack.use(feedFifo(fifo, disk.path));
    const listen = transport === "TCP" ? ["-p", "0"] : ["-U", socket];
    const words = ["serve", `read=${fifo}`, `size=${disk.size}`, ...listen];
    const program = stack.use(startProgram(words));
    await program.saying(/listening on .*\n/);
    const uri = /listening on (.*)\n/.exec(program.stderr)?.[1] as string;
    return {
      program,
      uri,
      address: transport === "TCP" ? Number(new URL(uri).port) : socket,
      file: (name) => place.file(name),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
