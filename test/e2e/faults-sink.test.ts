/** What becomes of a stream whose reader dies, stalls or never comes, and whose disk is full. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { ownMountsWork } from "../support/abilities.ts";
import { encodeRequest } from "../support/wire.ts";
import { DATA, ERROR, GATE, type SinkChoice, Trial, writeAll } from "../support/trial.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { start } from "../support/program.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

describe("a reader of a FIFO that dies", () => {
  test(
    "before the data is noticed without any data",
    async () => {
      await using trial = await Trial.serve({ fifo: GATE });
      await trial.program.saying(/the reader is there/);
      using client = await trial.client();
      expect(await client.flush()).toBe(0);
      trial.openGate();
      let error = 0;
      while (error === 0) error = await client.flush();
      expect(error).toBe(ERROR.ESHUTDOWN);
      expect(await client.write(0, DATA.subarray(0, 4 * KiB))).toBe(ERROR.ESHUTDOWN);
      await trial.fails({
        status: 4,
        message: /truncated: the reader of \S+fifo went away with the stream at byte 0: /,
        bytes: 0,
      });
    },
    // A client has not for long to ask again once the stream is broken.
    IN_TIME,
  );

  test.each([
    { requests: "small", piece: 4 * KiB },
    { requests: "large", piece: MiB },
  ])(
    "during the data, in $requests requests, is an error to the client",
    async ({ piece }) => {
      await using trial = await Trial.serve({ fifo: "head -c 100000" });
      using client = await trial.client();
      expect(await writeAll(client, DATA, piece)).toBe(ERROR.ESHUTDOWN);
      const message = /truncated: the reader of \S+fifo went away with the stream at byte [0-9]+/;
      expect(await trial.fails({ status: 4, message })).toHaveLength(100_000);
    },
    IN_TIME,
  );

  test(
    "while a client is in the middle of a payload does not leave it waiting",
    async () => {
      await using trial = await Trial.serve({ fifo: GATE });
      using client = await trial.client();
      client.send(encodeRequest(NBD_CMD_WRITE, 0, MiB), DATA.subarray(0, 5000));
      await trial.program.saying(/client 1 connected/);
      await trial.settled();
      trial.openGate();
      using other = await trial.client();
      while ((await other.flush()) === 0);
      client.send(DATA.subarray(5000, MiB));
      expect((await client.reply()).error).toBe(ERROR.ESHUTDOWN);
      await trial.fails({ status: 4, message: /went away with the stream at byte [0-9]+/ });
    },
    IN_TIME,
  );

  test("after all was written, but not read, is noticed at the end", async () => {
    await using trial = await Trial.serve({ fifo: `head -c 1000; ${GATE}` });
    using client = await trial.client();
    // As much as fits in every pipe.
    expect(await client.write(0, DATA.subarray(0, 32 * KiB))).toBe(0);
    client.disconnect();
    await trial.program.saying(/client 1 ended: disconnected/);
    trial.openGate();
    const output = await trial.fails({
      status: 4,
      message: /went away with the stream at byte 32768, 31768 bytes of it unread/,
      bytes: 32 * KiB,
    });
    expect(output).toHaveLength(1000);
  });

  test("takes run with it, and the command", async () => {
    const line = `exec qemu-io -t none -f raw -c 'write -P 3 0 8M' -c 'sleep 60000' "$uri"`;
    await using trial = await Trial.run({ fifo: "head -c 1000" }, [line]);
    await trial.fails({
      status: 4,
      message: /truncated: the reader of \S+fifo went away with the stream at byte [0-9]+/,
      whole: Buffer.alloc(8 * MiB, 3),
    });
  });
});

test.each([
  ["fails", "exit 22", "it failed with status 22"],
  ["ends early, and content", "exit 0", "it ended with status 0"],
  ["is killed", "kill -KILL $$", "it was killed by SIGKILL"],
])(
  "a command that %s is told of with its status",
  async (_, end, how) => {
    for (const start of ["serve", "run"] as const) {
      await using trial = await (start === "serve"
        ? Trial.serve({ exec: `${GATE}; ${end}` })
        : Trial.run({ exec: `${GATE}; ${end}` }, ['nbdcopy /dev/zero "$uri"'], {
            args: ["size=100M"],
          }));
      if (start === "serve") await trial.settled();
      trial.openGate();
      await trial.fails({
        status: start === "serve" ? 4 : 1,
        message: new RegExp(`the reader of exec:.* went away with the stream at byte .*; ${how}$`),
        whole: Buffer.alloc(0),
      });
    }
  },
  IN_TIME,
);

test(
  "a reader of a socket that dies is an error to the client",
  async () => {
    await using trial = await Trial.serve({ socket: 100_000 });
    using client = await trial.client();
    expect(await writeAll(client, DATA)).toBe(ERROR.ESHUTDOWN);
    await trial.fails({
      status: 4,
      message: /truncated: the reader of \S+reader.sock went away with the stream at byte [0-9]+/,
    });
  },
  IN_TIME,
);

describe("a reader that never comes", () => {
  const message = /truncated: nobody has opened \S+fifo for reading in 2 s: start its reader/;
  const args = ["--reader-timeout=2"];

  test("is given up by serve, with a client that waits", async () => {
    await using trial = await Trial.serve({ fifo: undefined }, { args });
    using client = await trial.client();
    client.send(encodeRequest(NBD_CMD_WRITE, 0, 4), Buffer.from("data"));
    await trial.fails({ status: 4, message, bytes: 0 });
  });

  test("is given up by serve, without a client", async () => {
    await using trial = await Trial.serve({ fifo: undefined }, { args });
    await trial.fails({ status: 4, message, bytes: 0 });
  });

  test("is given up by run, with the command", async () => {
    const line = `trap '' TERM; qemu-io -f raw -c 'write 0 64k' "$uri"; sleep 60`;
    await using trial = await Trial.run({ fifo: undefined }, [line], { args });
    await trial.fails({ status: 4, message, bytes: 0 });
  });
});

test("a reader that comes in time, while the program is stopped, is not given up", async () => {
  await using trial = await Trial.serve({ fifo: undefined }, { args: ["--reader-timeout=2"] });
  const { process: program } = trial.program;
  program.kill("SIGSTOP");
  await using reader = start(["cat", trial.sink.target]);
  await Bun.sleep(2400);
  program.kill("SIGCONT");
  using client = await trial.client();
  expect(await writeAll(client, DATA.subarray(0, 1000))).toBe(0);
  client.disconnect();
  const { status, stderr } = await trial.program.ended();
  expect(status, stderr).toBe(0);
  await reader.ended();
});

test("a reader that stalls and then goes on gets the whole stream", async () => {
  await using trial = await Trial.serve({ fifo: `head -c 100000; ${GATE}; cat` });
  using client = await trial.client();
  let answered = false;
  const writing = writeAll(client, DATA).finally(() => {
    answered = true;
  });
  // Slow on purpose: longer than the program waits for anybody who could hold up an end.
  await Bun.sleep(4000);
  expect(answered).toBeFalse();
  trial.openGate();
  expect(await writing).toBe(0);
  client.disconnect();
  await trial.completes(DATA);
});

describe("a sink without room", () => {
  test.each([
    { sink: "a device", target: "/dev/full", shell: "", piece: 4 * KiB },
    { sink: "a device", target: "/dev/full", shell: "", piece: MiB },
    { sink: "standard output", target: "-", shell: "exec > /dev/full; ", piece: 4 * KiB },
  ])(
    "as $sink is ENOSPC to a WRITE of $piece",
    async ({ target, shell, piece }) => {
      await using trial = await Trial.serve({ path: target }, { shell });
      using client = await trial.client();
      for (const offset of [0, piece]) {
        expect(await client.write(offset, DATA.subarray(0, piece))).toBe(ERROR.ENOSPC);
      }
      await trial.fails({
        status: 4,
        message: /truncated: \S.* failed with the stream at byte 0: \w+: No space left/,
        bytes: 0,
      });
    },
    IN_TIME,
  );

  test.each([4 * KiB, MiB])(
    "because the file grows too large, in requests of %d, is ENOSPC after an exact prefix",
    async (piece) => {
      await using trial = await Trial.serve("file", { shell: "ulimit -f 2048; " });
      using client = await trial.client();
      expect(await writeAll(client, DATA, piece)).toBe(ERROR.ENOSPC);
      // Shells count it in half or in whole KiB.
      const message =
        /truncated: \S.* failed with the stream at byte (1048576|2097152): \w+: File too large/;
      const output = await trial.fails({ status: 4, message });
      expect([MiB, 2 * MiB]).toContain(output.length);
    },
    IN_TIME,
  );

  test.skipIf(!ownMountsWork())(
    "because its file system is full is ENOSPC after an exact prefix",
    async () => {
      const steps = [
        "mkdir full && mount -t tmpfs -o size=1M none full",
        '"$@" > full/out; status=$?; cp full/out part; exit $status',
      ];
      const shell = `exec unshare -Urm sh -c '${steps.join("; ")}' sh "$@"; `;
      await using trial = await Trial.serve({ path: "-" }, { shell });
      using client = await trial.client();
      expect(await writeAll(client, DATA)).toBe(ERROR.ENOSPC);
      const message = /truncated: \S.* failed with the stream at byte 1048576: \w+: No space left/;
      expect(await trial.fails({ status: 4, message, bytes: MiB })).toHaveLength(MiB);
    },
    IN_TIME,
  );
});

describe("a command as the sink", () => {
  const early: { how: string; sink: SinkChoice; length: number }[] = [
    { how: "before any data with 0", sink: { exec: `${GATE}; exit 0` }, length: 0 },
    { how: "early with 0", sink: { exec: "head -c 1000 > part" }, length: 1000 },
    { how: "early with 1", sink: { exec: "head -c 1000 > part; exit 1" }, length: 1000 },
  ];

  test.each(early)(
    "that exits $how fails the stream",
    async ({ sink, length }) => {
      await using trial = await Trial.serve(sink);
      using client = await trial.client();
      trial.openGate();
      expect(await writeAll(client, DATA)).toBe(ERROR.ESHUTDOWN);
      const message = /truncated: the reader of exec:.* went away with the stream at byte [0-9]+/;
      expect(await trial.fails({ status: 4, message })).toHaveLength(length);
    },
    IN_TIME,
  );

  test("that exits at once with 0 fails the stream, though no client has come", async () => {
    await using trial = await Trial.serve({ exec: "exit 0" });
    const message = /truncated: the reader of exec:.* went away with the stream at byte 0\b/;
    expect(await trial.fails({ status: 4, message })).toHaveLength(0);
  });

  const late = [
    { how: "fails at the end", end: "exit 1", message: /exec:.* failed with status 1/ },
    { how: "is killed at the end", end: "kill -9 $$", message: /exec:.* was killed by SIGKILL/ },
  ];

  test.each(late)("that $how fails a stream from serve", async ({ end, message }) => {
    await using trial = await Trial.serve({ exec: `cat > part; ${end}` });
    using client = await trial.client();
    expect(await writeAll(client, DATA)).toBe(0);
    client.disconnect();
    expect(await trial.fails({ status: 4, message, bytes: DATA.length })).toEqual(DATA);
  });

  test.each(late)("that $how fails a run whose command succeeds", async ({ end, message }) => {
    const line = `qemu-io -f raw -c 'write -P 3 0 64k' "$uri"`;
    await using trial = await Trial.run({ exec: `cat > part; ${end}` }, [line]);
    await trial.fails({ status: 4, message, bytes: 64 * KiB, whole: Buffer.alloc(64 * KiB, 3) });
  });
});
