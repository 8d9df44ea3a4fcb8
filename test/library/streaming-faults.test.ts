/** Programs that do what they should not, and streams that do not get far: nothing is left of them. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { close } from "../../ffi/fd.ts";
import { boundAddress, connect, internetAddress } from "../../ffi/socket.ts";
import { messageOf } from "../../src/errors.ts";
import { serve, type Streaming, type StreamOptions, type UserError } from "../../src/index.ts";
import { LIMIT } from "../support/limit.ts";
import { bounded, start } from "../support/program.ts";
import { ANY_PORT, listening } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const program = (fault: string) => {
  const output = folder.file(`${fault}.out`);
  const script = join(import.meta.dir, "faulty.child.ts");
  const words = [process.execPath, script, fault, folder.file(`${fault}.sock`), output];
  return { output, running: start(words) };
};

/** The code of the error that a stream ends with. */
const refusal = (stream: Streaming) =>
  stream.then(
    () => "complete",
    (error: unknown) => (error as UserError).code,
  );

test.each(["listening", "progress", "message"])(
  "a listener of %s that throws is an uncaught exception, and the stream goes on",
  async (event) => {
    const { output, running: starting } = program(event);
    await using running = starting;
    const { status, stdout } = await running.ended();
    expect({ status, lines: stdout.trim().split("\n").toSorted() }).toEqual({
      status: 0,
      lines: ["complete: 4096", `uncaught: ${event}`],
    });
    expect(statSync(output).size).toBe(4096);
  },
);

test("a program that ends in the middle of a stream takes the command with it that takes it", async () => {
  const { output, running: starting } = program("exit");
  await using running = starting;
  expect((await running.ended()).status).toBe(9);
  // Whoever has inherited its standard error is gone by now: ended() waits for that.
  expect(existsSync(output)).toBe(true);
  expect(existsSync(`${output}.end`)).toBe(false);
});

test.each([
  ["cannot be loaded", "file:///no-such-worker.ts", /^BuildMessage: ModuleNotFound [^\n]*$/],
  ["fails", "data:text/javascript,throw new Error('boom')", /^boom$/],
])("a stream thread that %s ends the stream with one line", async (_, url, line) => {
  const stream = serve({
    pipe: "exec:cat > /dev/null",
    workerUrl: new URL(url),
    listen: { kind: "unix", path: folder.file("failing.sock") },
  });
  const error = await stream.then(() => "complete", messageOf);
  expect(error).toMatch(line);
});

describe("a server that cannot start leaves no descriptor open:", () => {
  const listen = { kind: "unix", path: folder.file("no/nbd.sock") } as const;
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const CASES: [string, StreamOptions][] = [
    ["a command that is written to", { pipe: "exec:cat > /dev/null" }],
    ["a command that is read", { read: "exec:cat /dev/zero", size: "1M" }],
    ["a file that is read", { read: import.meta.path }],
    ["a device that is written to", { pipe: "/dev/null" }],
    ["a spool", { pipe: "/dev/null", spool: folder.path }],
    ["a command of a stream that is held", { pipe: "exec:cat", spool: folder.path, hold: true }],
  ];
  test.each(CASES)("%s", async (_, options) => {
    const attempt = () => refusal(serve({ ...options, listen }));
    // The runtime opens some of its own at first.
    for (let i = 0; i < 3; i++) expect(await attempt()).toBe("ERR_LISTEN");
    const before = descriptors();
    for (let i = 0; i < 20; i++) await attempt();
    expect(descriptors()).toBeLessThan(before + 10);
  });

  test("a command, when the stream thread cannot start", async () => {
    const options = {
      pipe: "exec:cat > /dev/null",
      workerUrl: new URL("file:///no-such-worker.ts"),
      listen: { kind: "unix", path: folder.file("crash.sock") },
    } as const;
    const attempt = () => refusal(serve(options));
    for (let i = 0; i < 3; i++) expect(await attempt()).not.toBe("complete");
    const before = descriptors();
    for (let i = 0; i < 20; i++) await attempt();
    expect(descriptors()).toBeLessThan(before + 10);
  });

  test("a socket that is written to sees its end", async () => {
    const path = folder.file("sink.sock");
    const ended = Promise.withResolvers<void>();
    const server = createServer((socket) => {
      socket.on("close", () => ended.resolve());
      socket.resume();
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    try {
      expect(await refusal(serve({ pipe: path, listen }))).toBe("ERR_LISTEN");
      await bounded(ended.promise, "the end of the connection");
    } finally {
      server.close();
    }
  });
});

test("a stream that is stopped while it connects does not wait for whoever does not answer", async () => {
  // With its queue full, the kernel does not answer any more.
  using server = listening(ANY_PORT, 0);
  const { port } = boundAddress(server.fd) as { port: number };
  const address = internetAddress(Buffer.from([127, 0, 0, 1]), port);
  const crowd = [1, 2, 3].map(() => connect(address, "the queue"));
  try {
    const stream = serve({
      pipe: `tcp:127.0.0.1:${port}`,
      listen: { kind: "unix", path: folder.file("tcp.sock") },
    });
    setTimeout(() => stream.stop(), 100);
    const end = stream.then(
      () => "complete",
      (error: unknown) => error,
    );
    expect(await bounded(end, "the end")).toMatchObject({
      code: "ERR_TRUNCATED",
      exitStatus: 143,
      message: "ended by SIGTERM before the stream had begun",
    });
  } finally {
    for (const fd of crowd) close(fd);
  }
});

test("streams that are stopped without a free descriptor leave nothing, and no command takes them for whole", async () => {
  const output = folder.file("exhausted");
  const [socket, fifo, tmp] = ["exhausted.sock", "exhausted.fifo", "tmp"].map(folder.file);
  mkdirSync(tmp as string);
  const script = join(import.meta.dir, "exhausted.child.ts");
  const line = 'ulimit -n 100; exec "$0" "$@"';
  const words = [process.execPath, script, socket as string, fifo as string, output];
  await using running = start(["sh", "-c", line, ...words], { env: { TMPDIR: tmp } });
  const { stdout, stderr } = await running.ended();
  expect(JSON.parse(stdout || stderr)).toEqual(
    Array.from({ length: 3 }, () => "the stream is truncated: ended by SIGTERM"),
  );
  const left = readdirSync(folder.path).filter((name) => name.startsWith("exhausted"));
  expect(left.toSorted()).toEqual(["exhausted.run", "exhausted.serve"]);
  expect(readdirSync(tmp as string)).toEqual([]);
});

test.skipIf(Bun.which("strace") === null || Bun.which("nbdcopy") === null)(
  "a stream thread that is stuck in a system call never touches a descriptor of somebody else's (needs strace, nbdcopy)",
  async () => {
    const place = folder.file("stuck");
    mkdirSync(place);
    // In seconds and, for strace, in microseconds.
    const [seconds, delay] = [5, "inject=writev:delay_enter=4000000:when=1"];
    const trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=writev", "-e", delay];
    const script = join(import.meta.dir, "stuck.child.ts");
    await using running = start([...trace, process.execPath, script, place, String(seconds)]);
    const { stdout } = await running.ended();
    expect(JSON.parse(stdout)).toEqual({
      end: "the stream is truncated: ended by SIGTERM",
      read: 0,
    });
  },
);
