/** Streams of a program of its own: this one. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import {
  type Listening,
  type Message,
  type Progress,
  run,
  serve,
  type Streaming,
  type Summary,
  TruncatedError,
  UserError,
} from "../../src/index.ts";
import { resolveServe } from "../../src/library/options.ts";
import { startServe } from "../../src/library/serve.ts";
import { LIBRARY } from "../../src/messages/vocabulary.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { bounded, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let files = 0;
const fresh = (name: string) => folder.file(`${files++}-${name}`);

const BYTES = pseudoRandom(64 * 1024);

/** A server into a file, with the options that a test is about. */
function serveInto(output: string, options: Parameters<typeof serve>[0] = {}) {
  const path = fresh("nbd.sock");
  const pipe = `exec:cat > ${output}`;
  return { path, stream: serve({ pipe, listen: { kind: "unix", path }, ...options }) };
}

async function write(path: string): Promise<void> {
  using client = await RawClient.transmission(path);
  expect(await client.write(0, BYTES)).toBe(0);
  client.disconnect();
  await client.closed();
}

const listening = (stream: Streaming) =>
  bounded(new Promise<Listening>((resolve) => stream.once("listening", resolve)), "the server");

/** What a stream that must not end well ends with. */
async function failure(stream: Streaming): Promise<UserError> {
  const end = await bounded(
    stream.then(
      (summary) => summary,
      (error: unknown) => error,
    ),
    "the end",
  );
  if (end instanceof UserError) return end;
  throw new Error(`it has ended with ${JSON.stringify(end)}`);
}

describe("what is called before the start", () => {
  test("finds all in its place, and nobody served yet", async () => {
    let seen: unknown;
    const { path, stream } = serveInto(fresh("out"), {
      beforeStart: () => {
        seen = { socket: statSync(path).isSocket(), progress: stream.progress };
      },
    });
    await listening(stream);
    expect(seen).toEqual({ socket: true, progress: undefined });
    await write(path);
    await bounded<Summary>(stream, "the end");
  });

  test("keeps the stream from beginning by what it throws", async () => {
    const [output, ran] = [fresh("out"), fresh("ran")];
    const stream = run({
      pipe: `exec:cat > /dev/null; touch ${output}`,
      command: ["touch", ran],
      beforeStart: () => {
        throw new UserError("ERR_FILE", "not today");
      },
    });
    expect(await failure(stream)).toMatchObject({ code: "ERR_FILE", message: "not today" });
    expect([output, ran].filter((path) => existsSync(path))).toEqual([]);
  });
});

describe("serve", () => {
  test("gives the summary of a complete stream", async () => {
    const output = fresh("out");
    const { path, stream } = serveInto(output, { checksum: "sha256" });
    expect(await listening(stream)).toEqual({ uri: `nbd+unix:///?socket=${path}` });
    await write(path);
    const summary = await bounded<Summary>(stream, "the end");
    const digest = new Bun.CryptoHasher("sha256").update(BYTES).digest("hex");
    expect(summary).toMatchObject({
      complete: true,
      reason: null,
      bytes: BYTES.length,
      checksum: { algorithm: "sha256", digest },
    });
    expect(readFileSync(output).equals(BYTES)).toBe(true);
  });

  test("rejects with what has become of a stream that is stopped", async () => {
    const { path, stream } = serveInto(fresh("out"));
    await listening(stream);
    using client = await RawClient.transmission(path);
    expect(await client.write(0, BYTES)).toBe(0);
    stream.stop("SIGINT");
    const error = await failure(stream);
    expect(error).toBeInstanceOf(TruncatedError);
    expect(error).toMatchObject({
      code: "ERR_TRUNCATED",
      exitStatus: 130,
      message: "the stream is truncated: ended by SIGINT",
      summary: { complete: false, bytes: BYTES.length },
    });
  });

  test.each(["before", "while"])("ends when its signal is aborted %s it runs", async (when) => {
    const abort = new AbortController();
    const { stream } = serveInto(fresh("out"), { signal: abort.signal });
    if (when === "while") await listening(stream);
    abort.abort();
    expect(await failure(stream)).toMatchObject({ code: "ERR_TRUNCATED", exitStatus: 143 });
  });

  test("with keep, ends well when it is stopped between two clients", async () => {
    const output = fresh("out");
    const { path, stream } = serveInto(output, { keep: true });
    await listening(stream);
    await write(path);
    stream.stop();
    expect((await bounded<Summary>(stream, "the end")).bytes).toBe(BYTES.length);
    expect(readFileSync(output).equals(BYTES)).toBe(true);
  });

  test("writes to a descriptor of the caller's, which stays open", async () => {
    const output = fresh("out");
    const fd = openSync(output, "w");
    try {
      const { path, stream } = serveInto(output, { pipe: fd });
      await listening(stream);
      await write(path);
      await bounded(stream, "the end");
      expect(fstatSync(fd).size).toBe(BYTES.length);
    } finally {
      closeSync(fd);
    }
  });

  test("says what there is to say", async () => {
    const messages: Message[] = [];
    const { path, stream } = serveInto(fresh("out"));
    stream.on("message", (message) => messages.push(message));
    await listening(stream);
    await write(path);
    await bounded(stream, "the end");
    expect(messages).toContainEqual({ level: "verbose", text: "client 1 connected" });
  });

  test("tells how far it is, in events and at any time", async () => {
    const events: Progress[] = [];
    const { path, stream } = serveInto(fresh("out"), { size: 65536, progressInterval: 0.01 });
    stream.on("progress", (progress) => events.push(progress));
    expect(stream.progress).toBeUndefined();
    await listening(stream);
    expect(stream.progress).toMatchObject({ streamed: 0, size: 65536 });
    await eventually(() => events.at(-1)?.state === "waiting for a client", "an event");
    await write(path);
    await bounded(stream, "the end");
    const last = { streamed: 65536, data: 65536, zeroes: 0, size: 65536 };
    expect(events.at(-1)).toMatchObject(last);
    expect(stream.progress).toMatchObject(last);
    const count = events.length;
    await Bun.sleep(50);
    expect(events).toHaveLength(count);
  });

  test("tells of a stream that is held in which phase it is, and how long it turned out to be", async () => {
    const events: Progress[] = [];
    const options = { spool: folder.path, hold: true, progressInterval: 0.01 };
    const output = fresh("out");
    const { path, stream } = serveInto(output, options);
    stream.on("progress", (progress) => events.push(progress));
    await listening(stream);
    const held = { phase: "holding", streamed: 0, size: null, remaining: undefined };
    expect(stream.progress).toMatchObject({ ...held, spooled: 0, state: "waiting for a client" });
    {
      using client = await RawClient.transmission(path);
      expect(await client.write(65536, BYTES)).toBe(0);
      expect(await client.write(0, BYTES)).toBe(0);
      await eventually(() => (events.at(-1)?.spooled ?? 0) >= 131072, "what is in the spool");
      expect(events.at(-1)).toMatchObject(held);
      expect(existsSync(output)).toBe(false);
      client.disconnect();
      await client.closed();
    }
    const { spool, window } = await bounded<Summary>(stream, "the end");
    expect(spool?.most).toBeGreaterThanOrEqual(131072);
    expect(window).toBeNull();
    const last = { phase: "streaming", streamed: 131072, size: 131072, spooled: 0 };
    expect(events.at(-1)).toMatchObject(last);
    expect(stream.progress).toMatchObject(last);
    const phases = events.map(({ phase }) => phase);
    expect(phases.lastIndexOf("holding")).toBeLessThan(phases.indexOf("streaming"));
  });

  test("leaves the signals of the process alone", async () => {
    const count = () => ["SIGINT", "SIGTERM", "SIGHUP"].map((name) => process.listenerCount(name));
    const before = count();
    const { stream } = serveInto(fresh("out"));
    await listening(stream);
    expect(count()).toEqual(before);
    stream.stop();
    await failure(stream);
  });
});

describe("run", () => {
  test.each([
    ["a line for the shell", 'qemu-io -f raw -c "write -P 7 0 64k" "$uri" > /dev/null'],
    ["words", ["qemu-io", "-f", "raw", "-c", "write -q -P 7 0 64k", "$uri"]],
  ])("gives the summary when %s has succeeded", async (_, command) => {
    const output = fresh("out");
    const stream = run({ pipe: `exec:cat > ${output}`, command });
    expect(await bounded<Summary>(stream, "the end")).toMatchObject({ bytes: 65536, data: 65536 });
    expect(readFileSync(output).equals(Buffer.alloc(65536, 7))).toBe(true);
  });

  test("rejects with the command's own status", async () => {
    const error = await failure(run({ pipe: "exec:cat > /dev/null", command: "exit 7" }));
    expect(error).toMatchObject({ code: "ERR_TRUNCATED", exitStatus: 7 });
    expect((error as TruncatedError).summary.reason).toStartWith("the command failed");
  });

  test("is known to have been stopped before it has begun", async () => {
    const abort = AbortSignal.abort();
    const options = { pipe: "exec:cat > /dev/null", command: "true", signal: abort };
    expect(await failure(run(options))).toMatchObject({ code: "ERR_TRUNCATED", exitStatus: 143 });
  });

  test("ends what its command has started, and nothing else", async () => {
    const mine = Bun.spawn(["sleep", "60"]);
    const pids = fresh("pids");
    const line = `setsid sh -c 'echo $$ >> ${pids}; sleep 60' & until [ -s ${pids} ]; do :; done`;
    const lives = (pid: number) => {
      try {
        return process.kill(pid, 0);
      } catch {
        return false;
      }
    };
    try {
      const other = serveInto(fresh("out"));
      await listening(other.stream);
      const error = await failure(
        run({ pipe: "exec:cat > /dev/null", command: `${line}; exit 7` }),
      );
      expect(error.exitStatus).toBe(7);
      const orphan = Number(readFileSync(pids, "utf8"));
      expect(orphan).toBeGreaterThan(1);
      await eventually(() => !lives(orphan), "the orphan's end");
      expect(mine.exitCode).toBeNull();
      expect(mine.signalCode).toBeNull();
      // Nor another stream's endpoint.
      await write(other.path);
      expect((await bounded<Summary>(other.stream, "the end")).complete).toBe(true);
    } finally {
      mine.kill("SIGKILL");
      await mine.exited;
    }
  });

  test("several at a time do not get in each other's way", async () => {
    const outputs = [1, 2, 3].map((pattern) => ({ pattern, output: fresh("out") }));
    const streams = outputs.map(({ pattern, output }) => {
      const command = ["qemu-io", "-f", "raw", "-c", `write -q -P ${pattern} 0 1M`, "$uri"];
      return run({ pipe: `exec:cat > ${output}`, size: "1M", command });
    });
    await bounded(Promise.all(streams), "the ends");
    for (const { pattern, output } of outputs) {
      expect(readFileSync(output).equals(Buffer.alloc(1 << 20, pattern))).toBe(true);
    }
  });
});

describe("a program is told of its own options:", () => {
  test("by a stream that is too short, in the reason and in the summary", async () => {
    const { path, stream } = serveInto(fresh("short"), { size: 2 * BYTES.length });
    const ended = failure(stream);
    await listening(stream);
    await write(path);
    const error = await ended;
    expect(error.message).toEndWith(
      `finished at byte ${BYTES.length} of size ${2 * BYTES.length}: see whether one has failed; ` +
        "if they leave out zeroes at the end, use pad: true",
    );
    const { summary } = error as TruncatedError;
    expect(error.message).toBe(`the stream is truncated: ${summary.reason}`);
  });

  test("by the warnings, in the messages and in the summary", async () => {
    const path = fresh("nbd.sock");
    const read = `exec:head -c ${BYTES.length + 1} /dev/zero`;
    const size = BYTES.length;
    const stream = serve({ read, size, listen: { kind: "unix", path } });
    const warned: string[] = [];
    stream.on("message", ({ level, text }) => level === "warn" && warned.push(text));
    await listening(stream);
    {
      using client = await RawClient.transmission(path);
      expect(await client.read(0, size)).toEqual(Buffer.alloc(size));
      client.disconnect();
      await client.closed();
    }
    const { warnings } = await bounded(stream, "the end");
    expect(warned).toEqual([`${read} has 1 bytes more than size ${size}: is the size right?`]);
    expect(warnings).toEqual(warned);
  });

  test("by an address that is in use", async () => {
    using other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const listen = { kind: "tcp", host: "127.0.0.1", port: other.port } as const;
    const error = await failure(serve({ pipe: "exec:cat > /dev/null", listen }));
    expect(error.code).toBe("ERR_LISTEN");
    expect(error.message).toEndWith("another server uses it: choose another port with listen.port");
  });
});

describe("what cannot begin is refused:", () => {
  const CASES: [string, () => Streaming, string, RegExp][] = [
    ["nothing to run", () => run({ pipe: "x" }), "ERR_USAGE", /^nothing to run: give a command/],
    ["an empty command", () => run({ pipe: "x", command: [] }), "ERR_USAGE", /command is empty$/],
    [
      "a command and an image",
      () => run({ pipe: "x", command: "true", image: "y" }),
      "ERR_USAGE",
      /^image cannot be combined with command/,
    ],
    ["an image without a name", () => run({ pipe: "x", image: "" }), "ERR_USAGE", /^the image has/],
    [
      "a format of no image",
      () => run({ pipe: "x", command: "true", format: "raw" }),
      "ERR_USAGE",
      /^format needs image/,
    ],
    [
      "an image that is to be made of an unknown length",
      () => run({ read: "exec:true", image: "y.raw" }),
      "ERR_USAGE",
      /^making y\.raw needs size: the length of the source is not known; give/,
    ],
    [
      "no length for somebody who needs one",
      () =>
        startServe(
          () => ({ ...resolveServe({ pipe: "x" }), needsSize: "the percentage" }),
          LIBRARY,
        ),
      "ERR_USAGE",
      /^the percentage needs size: the length of the stream is not known; give/,
    ],
    [
      "an endless interval",
      () => serve({ pipe: "x", progressInterval: 1e9 }),
      "ERR_USAGE",
      /1e9|10/,
    ],
    ["a folder", () => serve({ pipe: folder.path }), "ERR_PIPE", /it is a folder; name a FIFO/],
    [
      "a command that is not there",
      () => run({ pipe: "exec:cat >/dev/null", command: ["no-such-command", "$nbd"] }),
      "ERR_COMMAND",
      /^cannot run no-such-command/,
    ],
    [
      "an image that is not there",
      () => run({ pipe: "exec:cat >/dev/null", image: folder.file("no.qcow2") }),
      "ERR_QEMU_IMG",
      /^cannot read .*no\.qcow2/,
    ],
  ];
  test.each(CASES)("%s", async (_, start, code, message) => {
    const error = await failure(start());
    expect(error).not.toBeInstanceOf(TruncatedError);
    expect(error.code).toBe(code as never);
    expect(error.message).toMatch(message);
  });
});
