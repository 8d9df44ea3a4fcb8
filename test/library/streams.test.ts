/** Several streams of a program of its own: this one. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { close } from "../../ffi/fd.ts";
import { boundAddress, connect, internetAddress } from "../../ffi/socket.ts";
import {
  run,
  serve,
  type Streams,
  type StreamSummary,
  TruncatedStreamsError,
  UserError,
} from "../../src/index.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { bounded, eventually } from "../support/program.ts";
import { ANY_PORT, listening as listeningAt } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let files = 0;
const fresh = (name: string) => folder.file(`${files++}-${name}`);

const BYTES = pseudoRandom(64 * 1024);
const OTHER_BYTES = pseudoRandom(96 * 1024);

/** A command that keeps what it gets, and says when it has taken that for whole. */
const keep = (path: string) => `exec:cat > ${path}; echo whole > ${path}.whole`;

/** Streams into files, called by their names. */
function serveNamed(
  names: readonly string[],
  options: Omit<Parameters<typeof serve>[0], "streams"> & { failFast?: boolean } = {},
) {
  const path = fresh("nbd.sock");
  const outputs = new Map(names.map((name) => [name, fresh("out")]));
  const streams = serve({
    listen: { kind: "unix", path },
    ...options,
    streams: names.map((exportName) => ({
      exportName,
      pipe: keep(outputs.get(exportName) as string),
    })),
  });
  const output = (name: string) => outputs.get(name) as string;
  return { path, streams, output };
}

const listening = (streams: Streams) =>
  bounded(new Promise<any>((resolve) => streams.once("listening", resolve)), "the server");

async function write(path: string, name: string, bytes: Uint8Array): Promise<void> {
  using client = await RawClient.transmission(path, name);
  expect(await client.write(0, bytes)).toBe(0);
  client.disconnect();
  await client.closed();
}

/** What streams that must not end well end with. */
async function failure(streams: Streams): Promise<unknown> {
  return await bounded(
    streams.then(
      () => "complete",
      (error: unknown) => error,
    ),
    "the end",
  );
}

test("streams are awaited for the summaries of all, in the order of the options", async () => {
  const { path, streams, output } = serveNamed(["vda", "vdb"]);
  const ended: string[] = [];
  streams.on("ended", (summary) => ended.push(summary.export));
  expect(await listening(streams)).toEqual({
    uri: `nbd+unix:///?socket=${path}`,
    streams: [
      { export: "vda", uri: `nbd+unix:///vda?socket=${path}` },
      { export: "vdb", uri: `nbd+unix:///vdb?socket=${path}` },
    ],
  });
  await write(path, "vdb", OTHER_BYTES);
  await eventually(() => ended.length === 1, "the first to end");
  expect(existsSync(path)).toBeTrue();
  await write(path, "vda", BYTES);
  const [vda, vdb] = await bounded(Promise.resolve(streams), "the end");
  expect(vda).toMatchObject({ export: "vda", complete: true, bytes: BYTES.length });
  expect(vdb).toMatchObject({ export: "vdb", complete: true, bytes: OTHER_BYTES.length });
  expect(ended).toEqual(["vdb", "vda"]);
  expect(readFileSync(output("vda")).equals(BYTES)).toBeTrue();
  expect(readFileSync(output("vdb")).equals(OTHER_BYTES)).toBeTrue();
  expect(existsSync(path)).toBeFalse();
});

test("events say of which stream they are", async () => {
  const { path, streams } = serveNamed(["vda", "vdb"], { progressInterval: 0.01 });
  const progress = new Set<string>();
  const messages = new Set<string | undefined>();
  streams.on("progress", (event) => progress.add(event.export));
  streams.on("message", (event) => messages.add(event.export));
  await listening(streams);
  using stranger = await RawClient.connect(path);
  stranger.send(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
  await stranger.closed();
  await write(path, "vda", BYTES);
  await write(path, "vdb", BYTES);
  await bounded(Promise.resolve(streams), "the end");
  expect([...progress].toSorted()).toEqual(["vda", "vdb"]);
  // A connection that has chosen none is the server's.
  expect(messages).toEqual(new Set(["vda", "vdb", undefined]));
  expect([...streams.progress].map(([name, { streamed }]) => [name, streamed])).toEqual([
    ["vda", BYTES.length],
    ["vdb", BYTES.length],
  ]);
});

test("a truncated stream rejects with the summaries of all, when all have ended", async () => {
  const { path, streams, output } = serveNamed(["vda", "vdb"]);
  const ended: StreamSummary[] = [];
  streams.on("ended", (summary) => ended.push(summary));
  await listening(streams);
  const client = await RawClient.transmission(path, "vda");
  expect(await client.write(0, BYTES)).toBe(0);
  client[Symbol.dispose]();
  await eventually(() => ended.length === 1, "the first to end");
  await write(path, "vdb", OTHER_BYTES);
  const error = await failure(streams);
  if (!(error instanceof TruncatedStreamsError)) throw error;
  expect(error).toBeInstanceOf(UserError);
  expect(error.code).toBe("ERR_TRUNCATED");
  expect(error.exitStatus).toBe(4);
  expect(error.summaries.map(({ export: name, complete }) => [name, complete])).toEqual([
    ["vda", false],
    ["vdb", true],
  ]);
  expect(error.message).toMatch(/^1 of 2 streams are truncated: vda: a client left without/);
  expect(existsSync(`${output("vda")}.whole`)).toBeFalse();
  expect(existsSync(`${output("vdb")}.whole`)).toBeTrue();
});

test("with failFast, a stream that fails ends the others, and they say because of whom", async () => {
  const { path, streams, output } = serveNamed(["vda", "vdb", "vdc"], { failFast: true });
  await listening(streams);
  await write(path, "vdc", BYTES);
  await eventually(() => existsSync(`${output("vdc")}.whole`), "the third to be whole");
  const client = await RawClient.transmission(path, "vda");
  expect(await client.write(0, BYTES)).toBe(0);
  client[Symbol.dispose]();
  const error = await failure(streams);
  if (!(error instanceof TruncatedStreamsError)) throw error;
  const [, vdb, vdc] = error.summaries;
  expect(vdb?.reason).toContain("because vda has failed (failFast: true)");
  expect(vdc?.complete).toBeTrue();
  expect(existsSync(`${output("vdb")}.whole`)).toBeFalse();
});

test("with failFast, a finished stream does not wait for its command where another one fails", async () => {
  const path = fresh("nbd.sock");
  const pipe = `exec:cat > /dev/null; ${"sleep 600"}`;
  const streams = serve({
    listen: { kind: "unix", path },
    failFast: true,
    streams: [
      { exportName: "slow", pipe },
      { exportName: "vdb", pipe: "/dev/null" },
    ],
  });
  await listening(streams);
  await write(path, "slow", BYTES);
  const client = await RawClient.transmission(path, "vdb");
  expect(await client.write(0, BYTES)).toBe(0);
  client[Symbol.dispose]();
  const error = await failure(streams);
  if (!(error instanceof TruncatedStreamsError)) throw error;
  expect(error.summaries[0]?.reason).toContain("because vdb has failed");
});

test("a stream that is stopped is stopped with all others", async () => {
  const { path, streams } = serveNamed(["vda", "vdb"]);
  await listening(streams);
  using client = await RawClient.transmission(path, "vda");
  expect(await client.write(0, BYTES)).toBe(0);
  streams.stop("SIGINT");
  const error = await failure(streams);
  if (!(error instanceof TruncatedStreamsError)) throw error;
  expect(error.exitStatus).toBe(130);
  expect(error.summaries.map(({ reason }) => reason)).toEqual(Array(2).fill("ended by SIGINT"));
});

describe("a stream that cannot begin", () => {
  const never = folder.file("no/such/fifo");

  test.each([0, 1, 2])("keeps the others from beginning, as number %d", async (bad) => {
    const path = fresh("nbd.sock");
    const output = fresh("out");
    const own = fresh("made.fifo");
    const good = [keep(output), own];
    const pipes = good.toSpliced(bad, 0, never);
    const streams = serve({
      listen: { kind: "unix", path },
      streams: pipes.map((pipe, i) => ({ exportName: `vd${i}`, pipe })),
    });
    let listened = false;
    streams.once("listening", () => (listened = true));
    const error = (await failure(streams)) as UserError;
    expect(error.code).toBe("ERR_PIPE");
    // It is named itself, and not the first that learns of it.
    expect(error.message).toStartWith(`vd${bad}: `);
    expect(error.message).toContain(never);
    expect([listened, existsSync(path), existsSync(own)]).toEqual([false, false, false]);
    expect(existsSync(`${output}.whole`)).toBeFalse();
  });

  test.each(["no/nbd.sock", "taken"])(
    "is nobody's own fault where the server cannot listen at %s",
    async (name) => {
      await Bun.write(folder.file("taken"), "a file of the user's");
      const own = fresh("made.fifo");
      const output = fresh("out");
      const streams = serve({
        listen: { kind: "unix", path: folder.file(name) },
        streams: [
          { exportName: "vda", pipe: keep(output) },
          { exportName: "vdb", pipe: own },
        ],
      });
      const error = (await failure(streams)) as UserError;
      expect([error.code, error.subject]).toEqual(["ERR_LISTEN", undefined]);
      expect(error.message).toStartWith("cannot listen on ");
      expect([existsSync(own), existsSync(`${output}.whole`)]).toEqual([false, false]);
      expect(readFileSync(folder.file("taken"), "utf8")).toBe("a file of the user's");
    },
  );

  test("is nobody's own fault where a signal comes before", async () => {
    // With its queue full, the kernel does not answer any more.
    using server = listeningAt(ANY_PORT, 0);
    const { port } = boundAddress(server.fd) as { port: number };
    const address = internetAddress(Buffer.from([127, 0, 0, 1]), port);
    const crowd = [1, 2, 3].map(() => connect(address, "the queue"));
    const [output, own] = [fresh("out"), fresh("made.fifo")];
    try {
      const streams = serve({
        listen: { kind: "unix", path: fresh("nbd.sock") },
        streams: [
          { exportName: "vda", pipe: keep(output) },
          { exportName: "vdb", pipe: `tcp:127.0.0.1:${port}` },
          { exportName: "vdc", pipe: own },
        ],
      });
      setTimeout(() => streams.stop(), 100);
      const error = (await failure(streams)) as UserError;
      expect([error.exitStatus, error.message]).toEqual([
        143,
        "ended by SIGTERM before the stream had begun",
      ]);
      expect([existsSync(own), existsSync(`${output}.whole`)]).toEqual([false, false]);
    } finally {
      for (const fd of crowd) close(fd);
    }
  });

  test("is nobody's own fault where the command cannot be executed", async () => {
    const output = fresh("out");
    const program = fresh("program");
    await Bun.write(program, "\x7fELF, but not really", { mode: 0o755 });
    const streams = run({
      command: [program],
      streams: [
        { exportName: "vda", pipe: keep(output) },
        { exportName: "vdb", pipe: "/dev/null" },
      ],
    });
    const error = (await failure(streams)) as UserError;
    expect([error.code, error.subject, error.exitStatus]).toEqual(["ERR_COMMAND", undefined, 126]);
    expect(existsSync(`${output}.whole`)).toBeFalse();
  });
});

describe("a stream thread that dies", () => {
  /** Dies at the name in its plan, and is the stream thread otherwise. */
  const script = folder.file("mortal.ts");
  const worker = async (broken: string) => {
    const real = new URL("../../src/stream.worker.ts", import.meta.url).href;
    await Bun.write(
      folder.file("first.ts"),
      `self.addEventListener("message", (event) => {
         if (event.data.size !== ${broken}n) return;
         event.stopImmediatePropagation();
         throw new Error("boom");
       }, { once: true });`,
    );
    // Both are there before the plan comes.
    await Bun.write(script, `import "./first.ts";\nimport ${JSON.stringify(real)};\n`);
    return new URL(`file://${script}`);
  };

  test("leaves the other streams and the server as they are", async () => {
    const path = fresh("nbd.sock");
    const [whole, broken] = [fresh("whole"), fresh("broken")];
    const ended: string[] = [];
    const streams = serve({
      listen: { kind: "unix", path },
      workerUrl: await worker("512"),
      streams: [
        { exportName: "broken", pipe: keep(broken), size: 512 },
        { exportName: "vdb", pipe: keep(whole), size: BYTES.length },
      ],
    });
    streams.on("ended", (summary) => ended.push(summary.export));
    const end = failure(streams);
    await listening(streams);
    // The crash is known when its export is gone.
    const isGone = async () => {
      try {
        (await RawClient.transmission(path, "broken"))[Symbol.dispose]();
        return false;
      } catch {
        return true;
      }
    };
    while (!(await isGone())) await Bun.sleep(20);
    await write(path, "vdb", BYTES);
    expect(await end).toMatchObject({ message: "boom" });
    expect(ended).toEqual(["vdb"]);
    expect(readFileSync(whole).equals(BYTES)).toBeTrue();
    expect(existsSync(`${whole}.whole`)).toBeTrue();
    expect(existsSync(`${broken}.whole`)).toBeFalse();
    expect(existsSync(path)).toBeFalse();
  });

  test("ends them with failFast", async () => {
    const path = fresh("nbd.sock");
    const whole = fresh("whole");
    const streams = serve({
      listen: { kind: "unix", path },
      workerUrl: await worker("512"),
      failFast: true,
      streams: [
        { exportName: "broken", pipe: "/dev/null", size: 512 },
        { exportName: "vdb", pipe: keep(whole), size: BYTES.length },
      ],
    });
    expect(await failure(streams)).toMatchObject({ message: "boom" });
    expect(existsSync(`${whole}.whole`)).toBeFalse();
  });
});

test("streams that come and go leave no descriptor open", async () => {
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const attempt = async () => {
    const { path, streams } = serveNamed(["vda", "vdb", "vdc"]);
    await listening(streams);
    for (const name of ["vda", "vdb", "vdc"]) await write(path, name, BYTES);
    await bounded(Promise.resolve(streams), "the end");
  };
  for (let i = 0; i < 3; i++) await attempt();
  const before = descriptors();
  for (let i = 0; i < 10; i++) await attempt();
  expect(descriptors()).toBeLessThan(before + 10);
});

test("a client that looks for formats by itself is not warned of one, as with one stream", async () => {
  const image = fresh("disk.qcow2");
  const made = Bun.spawnSync(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"]);
  expect(made.exitCode).toBe(0);
  const told = async (command: string) => {
    const streams = run({
      streams: ["vda", "vdb"].map((exportName) => ({ exportName, read: image })),
      command: `for uri in "$uri_vda" "$uri_vdb"; do ${command}; done`,
    });
    const warnings: string[] = [];
    streams.on("message", ({ level, text }) => level === "warn" && warnings.push(text));
    await bounded(streams, "the streams");
    return warnings;
  };
  expect(await told(`qemu-io -r -c "read 0 512" "$uri" > ${fresh("log")}`)).toEqual([]);
  const copied = await told(`nbdcopy "$uri" null:`);
  expect(copied.map((text) => /qcow2/.test(text))).toEqual([true, true]);
});
