/** `serve` as its users run it: started first, then clients come and go, then the stream ends. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { type Image, rawImage } from "../support/images.ts";
import { command, type Running, start, startProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(images.file("disk.raw"), 8 * MiB);
});

const CLIENTS = [
  {
    client: "qemu-img",
    copy: (uri: string) => ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", disk.path, uri],
  },
  { client: "nbdcopy", copy: nbdcopy },
];

function nbdcopy(uri: string): string[] {
  return ["nbdcopy", disk.path, uri];
}

const MODES = [
  { mode: "serve", options: [] },
  { mode: "serve --keep", options: ["--keep"] },
];

describe.each(CLIENTS)("a stream from $client", ({ copy }) => {
  test("is complete when the client of a Unix socket has left", async () => {
    using folder = tempFolder();
    const socket = folder.file("nbd.sock");
    await using serving = await serve(folder, ["-U", socket]);
    expect(serving.uri).toBe(`nbd+unix:///?socket=${socket}`);
    await command(copy(serving.uri));
    await serving.expectComplete();
    expect(existsSync(socket)).toBe(false);
  });

  test("is complete when the client of a TCP port has left", async () => {
    using folder = tempFolder();
    await using serving = await serve(folder, ["-p", "0"]);
    expect(serving.uri).toMatch(/^nbd:\/\/127\.0\.0\.1:[1-9][0-9]*\/$/);
    await command(copy(serving.uri));
    await serving.expectComplete();
  });

  test.each(MODES)("is truncated when the client of $mode is killed", async ({ options }) => {
    using folder = tempFolder();
    const [fifo, gate] = [folder.file("stream.fifo"), folder.file("gate")];
    mkfifo(fifo, 0o600);
    // It takes one byte and then pauses, so that the client cannot be done before it is killed.
    const pausing =
      'exec < "$0"; head -c 1; echo begun >&2; until [ -e "$1" ]; do sleep 0.02; done; cat';
    await using reader = start(["sh", "-c", `{ ${pausing}; } > /dev/null`, fifo, gate]);
    await using program = startProgram(["serve", `pipe=${fifo}`, "-p", "0", ...options]);
    await using client = start(copy(await listening(program)));
    await reader.saying(/begun/);
    client.process.kill("SIGKILL");
    await client.ended();
    writeFileSync(gate, "");
    expect(await program.ended()).toMatchObject({
      status: 4,
      stderr: expect.stringContaining("truncated"),
    });
  });
});

test("a client that only asks questions does not end the stream", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0"]);
  expect(await command(["nbdinfo", "--size", serving.uri])).toBe(`${2n ** 63n - 2n ** 30n}\n`);
  await command(["nbdinfo", serving.uri]);
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
});

test("a client that only zeroes the first sector, as if it made a disk for another, does not end it", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0", "-v"]);
  await command(["qemu-img", "create", "-q", "-f", "raw", serving.uri, `${MiB}`]);
  await serving.program.saying(/client \d+ ended: disconnected/);
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
});

test.each([
  { mode: "serve", options: [] },
  { mode: "serve --hold", options: ["spool=.", "--hold"] },
])("a client finds nothing to do in an empty stream of $mode, and ends it", async ({ options }) => {
  using folder = tempFolder();
  writeFileSync(folder.file("empty"), "");
  await using serving = await serve(folder, ["-p", "0", "size=0", ...options]);
  await command(["nbdcopy", folder.file("empty"), serving.uri]);
  await serving.expectComplete(new Bun.CryptoHasher("sha256").digest("hex"));
});

test("a stream that ends short of size= is truncated", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0", "size=1G"]);
  expect(await command(["nbdinfo", "--size", serving.uri])).toBe("1073741824\n");
  await command(nbdcopy(serving.uri));
  const { status, stderr } = await serving.program.ended();
  expect(status).toBe(4);
  expect(stderr).toContain(`truncated: the clients have finished at byte ${8 * MiB} of size=`);
});

test("--no-pad lets a stream end short of size=", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0", "size=1G", "--no-pad"]);
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
});

test("--pad brings a stream to size=", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0", "size=16M", "--pad"]);
  await command(nbdcopy(serving.uri));
  const padded = Buffer.concat([readFileSync(disk.path), Buffer.alloc(8 * MiB)]);
  await serving.expectComplete(new Bun.CryptoHasher("sha256").update(padded).digest("hex"));
});

test("write= is the same as pipe=", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0"], "write");
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
});

test("with -e, a client that asks for another name is refused and one with the name is not", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0", "-e", "disk one"]);
  expect(serving.uri).toEndWith("/disk%20one");
  await using refused = start(nbdcopy(serving.uri.replace("one", "two")));
  expect(await refused.ended()).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("no export named 'disk two'"),
  });
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
});

test("the pid file is there once clients can connect, and gone afterwards", async () => {
  using folder = tempFolder();
  const pidFile = folder.file("serve.pid");
  await using serving = await serve(folder, ["-p", "0", "-P", pidFile]);
  expect(readFileSync(pidFile, "utf8")).toBe(`${serving.program.process.pid}\n`);
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
  expect(existsSync(pidFile)).toBe(false);
});

test("a FIFO that serve makes is the user's alone, and gone afterwards", async () => {
  using folder = tempFolder();
  const fifo = folder.file("made.fifo");
  await using program = startProgram(["serve", `pipe=${fifo}`, "-p", "0"]);
  const uri = await listening(program);
  expect(statSync(fifo).isFIFO()).toBe(true);
  expect(statSync(fifo).mode & 0o777).toBe(0o600);
  await using digest = digestFifo(fifo);
  await command(nbdcopy(uri));
  expect(await program.ended()).toMatchObject({ status: 0 });
  expect(await digest.sha256()).toBe(disk.sha256);
  expect(existsSync(fifo)).toBe(false);
});

test("a FIFO that was there before stays", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0"]);
  await command(nbdcopy(serving.uri));
  await serving.expectComplete();
  expect(statSync(serving.fifo).isFIFO()).toBe(true);
});

test(
  "with --keep, a signal between two clients ends a stream of all that they wrote",
  async () => {
    using folder = tempFolder();
    await using serving = await serve(folder, ["-p", "0", "--keep", "-v"]);
    await command(nbdcopy(serving.uri));
    await command(["qemu-io", "-f", "raw", "-c", "write -P 5 8M 64k", serving.uri]);
    await serving.program.saying(/client 2 ended/);
    serving.program.process.kill("SIGTERM");
    const both = Buffer.concat([readFileSync(disk.path), Buffer.alloc(64 * 1024, 5)]);
    await serving.expectComplete(Bun.SHA256.hash(both, "hex"));
  },
  // After a signal the program has half a second for the rest.
  IN_TIME,
);

test("with --keep, a signal before the first client ends with the signal's status", async () => {
  using folder = tempFolder();
  await using serving = await serve(folder, ["-p", "0", "--keep", "--pad"]);
  serving.program.process.kill("SIGTERM");
  expect(await serving.program.ended()).toMatchObject({ status: 128 + 15 });
});

test.each(MODES)(
  "a signal to $mode while a client is connected ends with the signal's status",
  async ({ options }) => {
    using folder = tempFolder();
    await using serving = await serve(folder, ["-p", "0", "-v", ...options]);
    const lingering = ["qemu-io", "-f", "raw", "-c", "write 0 64k", "-c", "sleep 60000"];
    await using client = start([...lingering, serving.uri]);
    await serving.program.saying(/client 1 connected/);
    serving.program.process.kill("SIGTERM");
    expect(await serving.program.ended()).toMatchObject({ status: 128 + 15 });
    expect(client.process.exitCode).toBeNull();
  },
);

/** A `serve` with a reader. */
interface Serving extends AsyncDisposable {
  readonly program: Running;
  readonly uri: string;
  readonly fifo: string;
  /** Waits for a good end, and compares what came out: the disk, if nothing else is expected. */
  expectComplete(sha256?: string): Promise<void>;
}

async function serve(
  folder: ReturnType<typeof tempFolder>,
  args: readonly string[],
  parameter = "pipe",
): Promise<Serving> {
  const fifo = folder.file("stream.fifo");
  await using started = new AsyncDisposableStack();
  const digest = started.use(digestFifo(fifo));
  const program = started.use(startProgram(["serve", `${parameter}=${fifo}`, ...args]));
  const uri = await listening(program);
  const stack = started.move();
  return {
    program,
    uri,
    fifo,
    async expectComplete(sha256 = disk.sha256) {
      expect(await program.ended()).toMatchObject({ status: 0 });
      expect(await digest.sha256()).toBe(sha256);
    },
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
}

/** The URI that `serve` tells when clients can connect. */
async function listening(program: Running): Promise<string> {
  const told = /listening on (\S+)\n/;
  await program.saying(told);
  return told.exec(program.stderr)?.[1] as string;
}
