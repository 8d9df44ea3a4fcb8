/** What becomes of a stream whose data is all written, and whose end fails. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fstatSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Memory } from "../../ffi/memory.ts";
import { recv } from "../../ffi/socket.ts";
import { Descriptors } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { type Ended, eventually, PROGRAM, type Running, start } from "../support/program.ts";
import { quoted } from "../support/shell.ts";
import { failing, NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { tempFolder } from "../support/temp.ts";
import { DATA, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;

/** Shell words of a client that writes 64 KiB, less than every socket holds, and leaves in order. */
const WRITE = `qemu-io -f raw -c 'write -P 7 0 64k' "$uri" >&2`;
const WRITTEN = 64 * KiB;
/** When it has gone, nothing is left but to wait for the reader. */
const WRITTEN_ALL = /client 1 ended: disconnected/;

type Kind = "unix" | "tcp";

/** A stream into a socket whose reader has taken nothing so far. */
async function written(kind: Kind): Promise<{ trial: Trial; reader: Socket }> {
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const choice = kind === "unix" ? { unix: resolve } : { tcp: resolve };
  const trial = await Trial.run(choice, [WRITE]);
  const reader = await promise;
  await trial.program.saying(WRITTEN_ALL);
  return { trial, reader };
}

describe.each(["unix", "tcp"] as const)("the reader of a socket (%s)", (kind) => {
  const message = /truncated: the reader of \S+ went away with the stream at byte 65536: see why/;

  test("that closes without having read anything truncates the stream", async () => {
    const { trial, reader } = await written(kind);
    await using _ = trial;
    reader.destroy();
    await trial.fails({ status: 4, message, bytes: WRITTEN });
  });

  test("that says something, reads nothing and closes, does the same", async () => {
    const { trial, reader } = await written(kind);
    await using _ = trial;
    reader.write("so it is a connection in both directions");
    await eventually(() => reader.bytesWritten > 0, "the reader's words");
    reader.destroy();
    await trial.fails({ status: 4, message, bytes: WRITTEN });
  });

  test("that reads everything and closes has had a complete stream", async () => {
    const { trial, reader } = await written(kind);
    await using _ = trial;
    const received = taken(reader);
    reader.on("end", () => reader.end());
    const ended = await trial.program.ended();
    expect(ended.status, ended.stderr).toBe(0);
    await eventually(() => received() === WRITTEN, "all of it");
  });

  test("that reads everything and never closes has, too", async () => {
    const { trial, reader } = await written(kind);
    await using _ = trial;
    const received = taken(reader);
    const ended = await trial.program.ended();
    expect(ended.status, ended.stderr).toBe(0);
    await eventually(() => received() === WRITTEN, "all of it");
  });
});

test("a reader over TCP that closes only after it has seen the end truncates the stream", async () => {
  const { trial, reader } = await written("tcp");
  await using _ = trial;
  // More than the program takes to notice, that all is acknowledged, and less than it waits.
  await Bun.sleep(500);
  reader.destroy();
  await trial.fails({ status: 4, message: /the reader of tcp:\S+ went away/, bytes: WRITTEN });
});

describe("a reader over TCP sees an error, and no end, of a stream that is truncated", () => {
  test.each(["SIGTERM", "SIGKILL"] as const)("by %s", async (signal) => {
    const { promise, resolve } = Promise.withResolvers<Socket>();
    await using trial = await Trial.run({ tcp: resolve }, [`${WRITE}; sleep 30`]);
    const reader = await promise;
    const events: string[] = [];
    for (const event of ["end", "error"]) reader.on(event, () => events.push(event));
    const received = taken(reader);
    await eventually(() => received() === WRITTEN, "what was written");
    process.kill(trial.program.process.pid, signal);
    await eventually(() => reader.destroyed || events.length > 0, "the end of the connection");
    expect(events).toEqual(["error"]);
  });
});

test("a reader over TCP sees an error, and no end, of a stream that comes to nothing", async () => {
  const events: string[] = [];
  await using server = createServer((reader) => {
    for (const event of ["end", "error"]) reader.on(event, () => events.push(event));
    reader.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  using folder = tempFolder();
  // The connection is there by the time that the address turns out to be none.
  const where = folder.file("missing/nbd.sock");
  const words = ["serve", `pipe=tcp:127.0.0.1:${port}`, "-U", where];
  await using program = start([...PROGRAM, ...words]);
  const { status, stderr } = await program.ended();
  expect(status, stderr).toBe(3);
  await eventually(() => events.length > 0, "the end of the connection");
  expect(events).toEqual(["error"]);
});

/** Reads on. @returns how many bytes have come so far */
function taken(reader: Socket): () => number {
  let received = 0;
  reader.on("data", (bytes: Buffer) => (received += bytes.length));
  reader.resume();
  return () => received;
}

describe("a reader of a passed socket that takes 10 bytes and closes truncates a stream", () => {
  test.each([1000, 100_000, 2_000_000])("of %d bytes", async (size) => {
    using fds = new Descriptors();
    const [sink, reader] = fds.socketpair();
    const client = `qemu-io -f raw -c 'write 0 ${size}' "$uri" >&2`;
    await using program = passing(sink, [`size=${size}`, "-v", "--", client]);
    fds.close(sink);
    const scratch = new Memory(10);
    await eventually(() => recv(reader, scratch.at(0), 10) === 10, "the first bytes");
    // What fits has been written by then; of more, the client is in the middle.
    if (size < 200_000) await program.saying(WRITTEN_ALL);
    fds.close(reader);
    const { status, stderr } = await program.ended();
    expect(status, stderr).not.toBe(0);
    expect(stderr).toMatch(/truncated: the reader of fd:3 went away/);
  });
});

/** `run pipe=fd:3`, with that descriptor, in the words of a shell. */
function passing(fd: number, words: readonly string[], before: readonly string[] = []): Running {
  return start([...before, ...PROGRAM, "run", "pipe=fd:3", ...words], { passed: fd });
}

describe.skipIf(!STRACE_WORKS)(`a call that fails at the end ${NEEDS_STRACE}`, () => {
  test.each([
    { call: "close", error: "EIO", says: "close: Input/output error" },
    { call: "close", error: "EDQUOT", says: "close: Disk quota exceeded" },
    { call: "fdatasync", error: "EIO", says: "fdatasync: Input/output error" },
    { call: "fdatasync", error: "ENOSPC", says: "fdatasync: No space left on device" },
  ])("truncates a stream into a file: $call, $error", async ({ call, error, says }) => {
    using folder = tempFolder();
    const file = folder.file("disk.raw");
    writeFileSync(file, "");
    const line = `exec "$@" > ${quoted(file)}`;
    const traced = [...failing(call, error, file), ...PROGRAM, "run", "pipe=-", "--", WRITE];
    await using program = start(["sh", "-c", line, "sh", ...traced]);
    expectFailure(await program.ended(), "standard output", says);
  });

  test.each([
    { call: "shutdown", reads: true, from: 1, says: "shutdown: Input/output error" },
    { call: "close", reads: true, from: 1, says: "close: Input/output error" },
    // The first few ask what kind of socket it is; the others come again and again until all is read.
    { call: "getsockopt", reads: false, from: 10, says: "getsockopt: Input/output error" },
  ])("truncates a stream into a socket: $call", async ({ call, reads, from, says }) => {
    using fds = new Descriptors();
    const [sink, reader] = fds.socketpair();
    const traced = failing(call, "EIO", `socket:[${fstatSync(sink).ino}]`, from);
    await using program = passing(sink, ["--", WRITE], traced);
    fds.close(sink);
    const scratch = new Memory(1 << 16);
    let ended: Ended | undefined;
    void program.ended().then((how) => (ended = how));
    await eventually(() => {
      if (reads) recv(reader, scratch.at(0), scratch.length);
      return ended !== undefined;
    }, "the end");
    expectFailure(await program.ended(), "fd:3", says);
  });

  test("truncates a stream into a FIFO: close", async () => {
    using folder = tempFolder();
    const fifo = folder.file("disk.fifo");
    const reader = `until [ -p "$0" ]; do sleep 0.02; done; cat "$0" > /dev/null`;
    await using _ = start(["sh", "-c", reader, fifo], { group: true });
    const words = ["run", `pipe=${fifo}`, "--", WRITE];
    await using program = start([...failing("close", "EIO", fifo), ...PROGRAM, ...words]);
    expectFailure(await program.ended(), fifo, "close: Input/output error");
  });

  test.each([
    { ends: "well", source: "", status: 0, says: ": complete\n" },
    { ends: "badly", source: "; exit 3", status: 1, says: "failed with status 3" },
  ])("does not hide that a stream ends $ends: unlinkat", async ({ source, status, says }) => {
    using folder = tempFolder();
    const file = folder.file("disk.raw");
    writeFileSync(file, DATA.subarray(0, WRITTEN));
    const fault = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EIO"];
    const words = [
      `read=exec:cat ${quoted(file)}${source}`,
      `size=${WRITTEN}`,
      folder.file("copy.raw"),
    ];
    const traced = [
      "strace",
      "-f",
      "-qq",
      "-o",
      "/dev/null",
      ...fault,
      ...PROGRAM,
      "run",
      ...words,
    ];
    await using program = start(traced);
    const ended = await program.ended();
    expect(ended.status, ended.stderr).toBe(status);
    expect(ended.stderr).toContain(says);
    expect(ended.stderr).toMatch(/warn: cannot remove the folder \S+: .*; remove it yourself\n/);
  });

  test("does not matter to a stream that was read", async () => {
    using folder = tempFolder();
    const file = folder.file("disk.raw");
    writeFileSync(file, DATA.subarray(0, WRITTEN));
    const read = `qemu-io -r -f raw -c 'read 0 64k' "$uri" >&2`;
    const words = ["run", `read=${file}`, "--", read];
    await using program = start([...failing("close", "EIO", file), ...PROGRAM, ...words]);
    const { status, stderr } = await program.ended();
    expect(status, stderr).toBe(0);
  });
});

/** All was written, and the end has failed. */
function expectFailure({ status, stderr }: Ended, sink: string, says: string): void {
  expect(status, stderr).toBe(4);
  expect(stderr).toContain(
    `truncated: ${sink} failed with the stream at byte ${WRITTEN}: ${says}; `,
  );
}
