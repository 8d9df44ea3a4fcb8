/** What becomes of a stream that is held, or whose end waits in a spool, when its clients or its sink fail. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { createServer } from "node:net";
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { answering, eventually, PROGRAM, start } from "../support/program.ts";
import {
  HALF,
  HOLD,
  MARKED,
  MODES,
  SPOOL,
  wasStarted,
  writeAhead,
  writePart,
} from "../support/spooled.ts";
import { CHILD, DATA, ERROR, GATE, type SinkChoice, Trial, writeAll } from "../support/trial.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";
import type { RawClient } from "../support/nbd-client.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const COMMITS = { exec: MARKED } as const;
/** A command that stops in the middle, and goes on when the gate is open. */
const STALLS = {
  exec: `touch started; head -c 1000000 > part; ${GATE}; cat >> part; echo yes > done`,
} as const;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
const statusOf = (signal: (typeof SIGNALS)[number]) => 128 + constants.signals[signal];

/** Writes all, so that everything is held, or waits for the first sector. */
async function writeAllHeld(client: RawClient): Promise<void> {
  expect(await writeAhead(client)).toBe(0);
  expect(await writePart(client, 512, HALF)).toBe(0);
}

/** Lets what is held go. */
function finish(client: RawClient): void {
  client.send(encodeWrite(0, DATA.subarray(0, 512)));
  client.disconnect();
}

/** A client that has written all and lets it go; it has not left before it is disposed of. */
async function written(trial: Trial): Promise<RawClient> {
  const client = await trial.client();
  await writeAllHeld(client);
  finish(client);
  return client;
}

/** A client writes all and leaves in order, so that the sink is to be opened. */
async function handedOver(trial: Trial): Promise<void> {
  using client = await trial.client();
  expect(await writeAll(client, DATA)).toBe(0);
  client.disconnect();
  await trial.program.saying(/client 1 ended: disconnected/);
}

/** What comes out of {@link inSecondPhase}: a gap counts as a hole only at the end. */
const WITH_GAP = Buffer.from(DATA).fill(0, 0, 512);

/** Gets a trial with {@link STALLS} to where its client has left, and its command has some of it. */
async function inSecondPhase(trial: Trial): Promise<void> {
  using client = await trial.client();
  await writeAllHeld(client);
  client.disconnect();
  await trial.program.saying(/client 1 ended: disconnected/);
  const part = () => existsSync(trial.file("part")) && Bun.file(trial.file("part")).size;
  await eventually(() => part() === 1_000_000, "the first million bytes");
}

/** Where a client may be when it dies, and what it has written. */
const DEATHS: { where: string; write(client: RawClient): Promise<void>; why: RegExp }[] = [
  {
    where: "in the middle of a WRITE",
    async write(client) {
      await writeAllHeld(client);
      client.send(encodeRequest(NBD_CMD_WRITE, 0, 512), DATA.subarray(0, 100));
    },
    why: /truncated: the client's connection ended 412 bytes before the end of NBD_CMD_WRITE/,
  },
  {
    where: "between two requests",
    write: writeAllHeld,
    why: /truncated: \S.* left without NBD_CMD_DISC/,
  },
  {
    where: "when it has written all",
    async write(client) {
      await writeAllHeld(client);
      expect(await client.write(0, DATA.subarray(0, 512))).toBe(0);
    },
    why: /truncated: \S.* left without NBD_CMD_DISC/,
  },
];

describe.each(DEATHS)("a client that dies $where", ({ write, why }) => {
  describe.each([
    { how: "", more: [] },
    { how: " with --reconnect", more: ["--reconnect=0.3"] },
  ])("$how", ({ more }) => {
    const args = [...HOLD, ...more];
    const kill = async (trial: Trial) => {
      const client = await trial.client();
      await write(client);
      await trial.settled();
      client[Symbol.dispose]();
    };

    test("lets no command be started", async () => {
      await using trial = await Trial.serve(COMMITS, { args });
      await kill(trial);
      await trial.fails({ status: 4, message: why, bytes: 0 });
      expect(wasStarted(trial)).toBeFalse();
    });

    test("leaves a FIFO without a byte", async () => {
      await using trial = await Trial.serve("FIFO", { args });
      await kill(trial);
      expect(await trial.fails({ status: 4, message: why, bytes: 0 })).toHaveLength(0);
    });

    test.each(["unix", "tcp"] as const)("lets nobody connect to a listener (%s)", async (kind) => {
      let connections = 0;
      const count = () => connections++;
      const choice: SinkChoice = kind === "unix" ? { unix: count } : { tcp: count };
      await using trial = await Trial.serve(choice, { args });
      await kill(trial);
      await trial.fails({ status: 4, message: why, bytes: 0 });
      expect(connections).toBe(0);
    });

    test("leaves a file as it was", async () => {
      await using trial = await Trial.serve("file", { args });
      await kill(trial);
      expect(await trial.fails({ status: 4, message: why, bytes: 0 })).toHaveLength(0);
    });

    test("does not make run succeed, whatever its command says", async () => {
      const line = `${CHILD.join(" ")} "$unixsocket" payload & wait $!; exit 0`;
      await using trial = await Trial.run(COMMITS, [line], { args });
      await trial.signalChild("SIGKILL");
      await trial.fails({ status: 4, message: /truncated: /, bytes: 0 });
      expect(wasStarted(trial)).toBeFalse();
    });
  });
});

test("a client that comes back lets a held stream end well, and only then is the command started", async () => {
  await using trial = await Trial.serve(COMMITS, { args: [...HOLD, "--reconnect=20"] });
  {
    using client = await trial.client();
    await writeAllHeld(client);
    client.send(encodeRequest(NBD_CMD_WRITE, 0, 512), DATA.subarray(0, 100));
    await trial.settled();
  }
  using client = await trial.client();
  expect(await client.write(0, DATA.subarray(0, 512))).toBe(0);
  await trial.settled();
  expect(wasStarted(trial)).toBeFalse();
  client.disconnect();
  await trial.completes(DATA);
});

describe("a command of run that fails when it has written all", () => {
  const line = `nbdcopy disk.raw "$uri"; exit 7`;
  const message = /truncated: the command failed with the stream at byte 0: see its message/;

  test("lets no command be started", async () => {
    await using trial = await Trial.run(COMMITS, [`${GATE}; ${line}`], { args: HOLD });
    writeFileSync(trial.file("disk.raw"), DATA);
    trial.openGate();
    await trial.fails({ status: 7, message, bytes: 0 });
    expect(wasStarted(trial)).toBeFalse();
  });

  test("leaves a FIFO without a byte", async () => {
    await using trial = await Trial.run("FIFO", [`${GATE}; ${line}`], { args: HOLD });
    writeFileSync(trial.file("disk.raw"), DATA);
    trial.openGate();
    expect(await trial.fails({ status: 7, message, bytes: 0 })).toHaveLength(0);
  });
});

describe("a reader that dies while the stream is held is noticed at once:", () => {
  test("of a FIFO", async () => {
    await using trial = await Trial.serve({ fifo: GATE }, { args: HOLD });
    await trial.program.saying(/the reader is there/);
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, MiB))).toBe(0);
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /the reader of \S+fifo went away with .* byte 0: /,
      bytes: 0,
    });
    expect(await client.closed()).toBeUndefined();
  });

  test("of standard output", async () => {
    const line = `"$@" | { ${GATE}; exec 0<&-; touch left; }; exit 0`;
    await using trial = await Trial.serve({ path: "-" }, { args: HOLD, line });
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, MiB))).toBe(0);
    trial.openGate();
    let error = 0;
    while (error === 0) error = await client.write(0, DATA.subarray(0, 512)).catch(() => -1);
    expect([-1, ERROR.ESHUTDOWN]).toContain(error);
    await trial.program.saying(/truncated: the reader of standard output went away/);
  });
});

describe.each(MODES)("a reader that dies when all is to go out ($mode)", ({ args }) => {
  const goneAt = (sink: string) =>
    new RegExp(`truncated: the reader of ${sink} went away with the stream at byte [0-9]+`);

  test.each([
    { where: "at the start", bytes: 0 },
    { where: "in the middle", bytes: 3_000_000 },
    { where: "before the last sector", bytes: DATA.length - 512 },
  ])("of a FIFO, $where", async ({ bytes }) => {
    await using trial = await Trial.serve({ fifo: `${GATE}; head -c ${bytes}` }, { args });
    using _ = await written(trial);
    await trial.program.saying(/client 1 connected/);
    trial.openGate();
    const output = await trial.fails({ status: 4, message: goneAt("\\S+fifo") });
    expect(output).toHaveLength(bytes);
  });

  test.each([0, 1])("of a command that ends early with %d", async (status) => {
    const exec = `touch started; head -c 1000000 > part; exit ${status}`;
    await using trial = await Trial.serve({ exec }, { args });
    using _ = await written(trial);
    await trial.fails({ status: 4, message: goneAt("exec:.*") });
  });

  test("of a command that fails when it has everything", async () => {
    await using trial = await Trial.serve({ exec: "cat > part; exit 3" }, { args });
    using _ = await written(trial);
    const message = /truncated: exec:.* failed with status 3/;
    expect(await trial.fails({ status: 4, message, bytes: DATA.length })).toHaveLength(DATA.length);
  });

  test("of a socket", async () => {
    await using trial = await Trial.serve({ socket: 1_000_000 }, { args });
    using _ = await written(trial);
    await trial.fails({ status: 4, message: goneAt("\\S+reader.sock") });
  });

  test("of a device without room", async () => {
    await using trial = await Trial.serve({ path: "/dev/full" }, { args });
    using _ = await written(trial);
    const message = /truncated: \/dev\/full failed with the stream at byte 0: \w+: No space left/;
    await trial.fails({ status: 4, message, bytes: 0 });
  });

  test("who never came is given up with --reader-timeout", async () => {
    const own = [...args, "--reader-timeout=2"];
    await using trial = await Trial.serve({ fifo: undefined }, { args: own });
    using client = await trial.client();
    client.send(encodeWrite(HALF, DATA.subarray(HALF, HALF + MiB)));
    const message = /truncated: nobody has opened \S+fifo for reading in 2 s: start its reader/;
    await trial.fails({ status: 4, message, bytes: 0 });
  });
});

describe("a sink that cannot be opened when all is held", () => {
  test("is a truncated stream: nobody listens there (tcp:)", async () => {
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const { port } = listener.address() as { port: number };
    // As long as the port is taken on one address, nobody gets it by chance on the other.
    try {
      await using trial = await Trial.serve({ path: `tcp:127.0.0.2:${port}` }, { args: HOLD });
      using client = await trial.client();
      expect(await writeAll(client, DATA)).toBe(0);
      client.disconnect();
      const message = /truncated: pipe=tcp:\S+ cannot be used: nobody answers there \(connect/;
      await trial.fails({ status: 4, message, bytes: 0 });
    } finally {
      listener.close();
    }
  });

  test.each(["its listener is gone", "its name is gone"])(
    "is a truncated stream: %s (Unix socket)",
    async (how) => {
      using folder = tempFolder();
      const path = folder.file("reader.sock");
      const listener = createServer();
      await new Promise<void>((resolve) => listener.listen(path, resolve));
      await using trial = await Trial.serve({ path }, { args: HOLD });
      using client = await trial.client();
      expect(await writeAll(client, DATA)).toBe(0);
      if (how === "its name is gone") listener.close();
      else {
        // A listener that is killed leaves the name.
        const { rename } = await import("node:fs/promises");
        await rename(path, `${path}.kept`);
        listener.close();
        await rename(`${path}.kept`, path).catch(() => writeFileSync(path, "no socket"));
      }
      client.disconnect();
      await trial.fails({ status: 4, message: /truncated: pipe=\S+ cannot be used: /, bytes: 0 });
    },
  );
});

/** A listener that answers nobody: with its queue full, the kernel keeps silent. */
async function silentListener(): Promise<AsyncDisposable & { readonly port: number }> {
  const { boundAddress, connect, internetAddress } = await import("../../ffi/socket.ts");
  const { close } = await import("../../ffi/fd.ts");
  const { ANY_PORT, listening } = await import("../support/sockets.ts");
  const server = listening(ANY_PORT, 0);
  const { port } = boundAddress(server.fd) as { port: number };
  const address = internetAddress(Buffer.from([127, 0, 0, 1]), port);
  const crowd = [1, 2, 3].map(() => connect(address, "the queue"));
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const fd of crowd) close(fd);
      server[Symbol.dispose]();
    },
  };
}

describe.each(SIGNALS)("%s", (signal) => {
  describe.each(MODES)("with $mode", ({ args }) => {
    test("while clients write truncates the stream", async () => {
      await using trial = await Trial.serve(COMMITS, { args });
      using client = await trial.client();
      await writeAllHeld(client);
      // Without --hold it is started at once, but has to get to its first step.
      if (args === SPOOL) await eventually(() => wasStarted(trial), "the command");
      trial.program.process.kill(signal);
      const message = new RegExp(`truncated: ended by ${signal}$`);
      await trial.fails({ status: statusOf(signal), message, bytes: 0 });
      expect(wasStarted(trial)).toBe(args === SPOOL);
    });

    test.each([1, 2])("while all goes out to a reader that stalls, %d times", async (times) => {
      await using trial = await Trial.serve(STALLS, { args });
      await inSecondPhase(trial);
      for (let i = 0; i < times; i++) {
        trial.program.process.kill(signal);
        await Bun.sleep(50);
      }
      const message = new RegExp(`truncated: ended by ${signal}$`);
      await trial.fails({ status: statusOf(signal), message, whole: WITH_GAP });
    });

    test(
      "while all goes out leaves time for the rest of it",
      async () => {
        await using trial = await Trial.serve(STALLS, { args });
        await inSecondPhase(trial);
        trial.program.process.kill(signal);
        await Bun.sleep(20);
        trial.openGate();
        await trial.completes(WITH_GAP);
      },
      IN_TIME,
    );

    test(
      "when all is out changes nothing",
      async () => {
        const exec = `cat > part; touch all; ${GATE}; echo yes > done`;
        await using trial = await Trial.serve({ exec }, { args });
        using _ = await written(trial);
        await eventually(() => existsSync(trial.file("all")), "the command to have it all");
        trial.program.process.kill(signal);
        trial.openGate();
        await trial.completes(DATA);
      },
      IN_TIME,
    );
  });

  test("while the sink of a held stream does not answer truncates it soon", async () => {
    await using server = await silentListener();
    await using trial = await Trial.serve({ path: `tcp:127.0.0.1:${server.port}` }, { args: HOLD });
    await handedOver(trial);
    await Bun.sleep(100);
    trial.program.process.kill(signal);
    const message = new RegExp(`truncated: ended by ${signal}$`);
    await trial.fails({ status: statusOf(signal), message, bytes: 0 });
  });
});

const isolated =
  process.getuid?.() === 0 && Bun.spawnSync(["unshare", "-m", "mount", "--help"]).success;

test.skipIf(!isolated)(
  "a signal does not wait for a name server that does not answer (needs root, unshare)",
  async () => {
    // Nobody else has this address, and nobody reads what comes to it.
    const address = `127.${process.pid & 127}.${(process.pid >> 7) & 127}.53`;
    const silent = await Bun.udpSocket({ hostname: address, port: 53 });
    using folder = tempFolder();
    const servers = folder.file("resolv.conf");
    writeFileSync(servers, `nameserver ${address}\noptions timeout:30 attempts:5\n`);
    const mount = `mount --bind ${servers} /etc/resolv.conf`;
    const line = `exec unshare -m sh -c '${mount} && exec "$@"' sh "$@"`;
    try {
      const sink = { path: "tcp:nowhere.example:1" };
      await using trial = await Trial.serve(sink, { args: HOLD, line });
      await handedOver(trial);
      await Bun.sleep(100);
      trial.program.process.kill("SIGTERM");
      await trial.fails({ status: 143, message: /truncated: ended by SIGTERM$/, bytes: 0 });
    } finally {
      silent.close();
    }
  },
);

test("a client that comes while the sink is opened truncates the stream", async () => {
  await using server = await silentListener();
  await using trial = await Trial.serve({ path: `tcp:127.0.0.1:${server.port}` }, { args: HOLD });
  await handedOver(trial);
  // The server waits about a second for clients that come back.
  await Bun.sleep(2000);
  using late = await trial.client();
  late.disconnect();
  await trial.fails({ status: 4, message: /truncated: a client has come when /, bytes: 0 });
});

test.each(MODES)("SIGUSR1 asks for progress at any time ($mode)", async ({ args }) => {
  await using trial = await Trial.serve(STALLS, { args });
  {
    using client = await trial.client();
    expect(await writeAhead(client)).toBe(0);
    trial.program.process.kill("SIGUSR1");
    await trial.program.saying(
      args.includes("--hold") ? /: holding \S+ MiB/ : /: 0%, 0 B of 8.00 MiB/,
    );
    expect(await writePart(client, 512, HALF)).toBe(0);
    finish(client);
  }
  await eventually(() => existsSync(trial.file("part")), "the command");
  await eventually(() => Bun.file(trial.file("part")).size === 1_000_000, "the first million");
  // What the pipe holds behind it may take a moment longer.
  await answering(trial.program, /: [1-9][0-9]*%, [1-9]\S* MiB of 8.00 MiB/);
  trial.openGate();
  await trial.completes(DATA);
});

describe.skipIf(Bun.which("nbdcopy") === null)(
  "nbdcopy that has started the program (needs nbdcopy)",
  () => {
    test.each([
      { sink: "exec:cat > out", mode: HOLD },
      { sink: "exec:cat > out", mode: SPOOL },
      { sink: "disk.fifo", mode: HOLD },
    ])(
      "and sends a signal at its end gets all of it out ($sink, $mode.1)",
      async ({ sink, mode }) => {
        using folder = tempFolder();
        writeFileSync(folder.file("disk.raw"), DATA);
        const words = mode.map((word) => word.replace(/spool=.*/, "spool=."));
        const server = [...PROGRAM, "serve", `pipe=${sink}`, ...words];
        const read = `until [ -p disk.fifo ]; do sleep 0.02; done; cat disk.fifo > out`;
        await using _ = start(["sh", "-c", sink === "disk.fifo" ? read : "exit 0"], {
          cwd: folder.path,
          group: true,
        });
        await using copy = start(["nbdcopy", "disk.raw", "--", "[", ...server, "]"], {
          cwd: folder.path,
        });
        const { stderr } = await copy.ended();
        expect(stderr).toContain(": complete");
        expect(readFileSync(folder.file("out")).equals(DATA)).toBeTrue();
      },
    );
  },
);
