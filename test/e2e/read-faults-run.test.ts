/** What becomes of a stream that is read when the captive command is missing, fails or cheats. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { statSync } from "node:fs";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { CHILD, ReadTrial } from "../support/read-trial.ts";
import { GATE } from "../support/base-trial.ts";
import type { SourceChoice } from "../support/sources.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const END = 3 * MiB + 1000;
const WHOLE = { args: ["size=8M"] };

const SOURCES: [string, SourceChoice][] = [
  ["FIFO", { fifo: "cat data" }],
  ["command", { exec: "cat data" }],
];

/** Shell words of a client that reads all, of one that reads 2 MiB, and of one that then stops. */
const COPY = 'nbdcopy "$uri" out';
const READ = `qemu-io -r -f raw -c 'read -q 0 2M' "$uri"`;
const stopIn = (stage: string) => `${CHILD.join(" ")} "$unixsocket" "${stage}"`;

describe.each(SOURCES)("with a %s as the source, a command", (_, choice) => {
  test("that is missing is named, and nothing is left", async () => {
    await using trial = await ReadTrial.run(choice, ["no-such-command", "$uri"], WHOLE);
    await trial.fails({ status: 127, message: /cannot run no-such-command: .*; install it/ });
  });

  test("that is not executable is named, and nothing is left", async () => {
    await using trial = await ReadTrial.run(choice, ["/etc/passwd", "$uri"], WHOLE);
    await trial.fails({ status: 126, message: /cannot run \/etc\/passwd: / });
  });

  test.each([
    { how: "fails", line: "exit 7", status: 7 },
    { how: "kills itself", line: "kill -9 $$", status: 137 },
    {
      how: "fails and leaves a process in a session of its own",
      line: "setsid sh -c 'trap \"\" TERM; sleep 60; sleep 60' & exit 7",
      status: 7,
    },
  ])("that reads a part and then $how gives its status", async ({ line, status }) => {
    await using trial = await ReadTrial.run(choice, [`${READ}; ${line}`], WHOLE);
    const message =
      /truncated: the command failed with the stream at byte 2097152: see its message/;
    await trial.fails({ status, message, bytes: 2 * MiB });
  });

  test("that reads all and then fails gives its status", async () => {
    await using trial = await ReadTrial.run(choice, [`${COPY} && exit 7`], WHOLE);
    const message = /truncated: the command failed with the stream at byte 8388608: /;
    await trial.fails({ status: 7, message, bytes: 8 * MiB });
  });

  test("that reads a part and is content is a success", async () => {
    await using trial = await ReadTrial.run(choice, [READ], WHOLE);
    await trial.completes(2 * MiB);
  });

  test("that never connects has read nothing", async () => {
    await using trial = await ReadTrial.run(choice, ["true"], WHOLE);
    const message = /truncated: the command has ended without connecting: pass it \$nbd/;
    await trial.fails({ status: 4, message, bytes: 0 });
  });

  test.each(["idle state", "header", "reply"])(
    "that is killed with its client in the %s gives its status",
    async (stage) => {
      await using trial = await ReadTrial.run(choice, [...CHILD, "$unixsocket", stage], WHOLE);
      await trial.signalChild("SIGKILL");
      await trial.fails({ status: 137, message: /truncated: the command failed with the stream/ });
    },
  );

  test.each(["header", "reply"])(
    "that ignores that its client was killed in the %s is no success",
    async (stage) => {
      const line = `${stopIn(stage)} & wait $!; exit 0`;
      await using trial = await ReadTrial.run(choice, [line], WHOLE);
      await trial.signalChild("SIGKILL");
      await trial.fails({ status: 4, message: /truncated: a client left without NBD_CMD_DISC/ });
    },
  );
});

test.each([
  { where: "in the background", before: "" },
  { where: "in a session of its own", before: "setsid " },
])("a command that leaves a silent client $where is told so", async ({ before }) => {
  const line = `${before}${stopIn("idle state")} & ${GATE}`;
  await using trial = await ReadTrial.run({ exec: "cat data" }, [line], WHOLE);
  await trial.program.saying(/is in the idle state/);
  trial.openGate();
  await trial.fails({
    status: 4,
    message: /truncated: .* a client that it left behind is still connected: wait for it/,
    bytes: 2 * MiB,
  });
});

test("a command that leaves a client behind that takes no replies is told so", async () => {
  await using trial = await ReadTrial.run(
    { fifo: "cat data" },
    [`${stopIn("reply")} & ${GATE}`],
    WHOLE,
  );
  await trial.program.saying(/is in the reply/);
  trial.openGate();
  await trial.fails({ status: 4, message: /truncated: .* left behind is still connected/ });
});

const SHORT: [string, SourceChoice][] = [
  ["FIFO", { fifo: `head -c ${END} data` }],
  ["standard input", { stdin: `head -c ${END} data` }],
  ["command", { exec: `head -c ${END} data` }],
  ["Unix socket", { unix: (connection) => void connection.end(Buffer.alloc(END, 1)) }],
];

describe.each(SHORT)("with a %s that ends early, a command", (_, choice) => {
  const message = new RegExp(`truncated: .* ended at byte ${END} of size=8388608: `);

  test(
    "that fails of it gives its status",
    async () => {
      await using trial = await ReadTrial.run(choice, ["nbdcopy", "$uri", "out"], WHOLE);
      await trial.fails({ status: 1, message });
    },
    // The program ends soon after its stream has failed, whether its client has heard of it or not.
    IN_TIME,
  );

  test("that ignores it is no success", async () => {
    await using trial = await ReadTrial.run(choice, [`${COPY}; exit 0`], WHOLE);
    await trial.fails({ status: 4, message });
  });
});

test("a command that does not end of a source that ends early is ended", async () => {
  const line = `trap '' TERM INT HUP; while :; do ${COPY}; sleep 0.1; done`;
  await using trial = await ReadTrial.run({ fifo: `head -c ${END} data` }, [line], WHOLE);
  await trial.fails({ status: 4, message: /truncated: .* ended at byte/ });
});

test("a command that ignores that it went back is no success", async () => {
  const reads = `-c 'read -q 0 4M' -c 'read -q 2M 1M'`;
  const line = `qemu-io -r -f raw ${reads} "$uri"; exit 0`;
  await using trial = await ReadTrial.run({ path: "data" }, [line]);
  const message = /truncated: NBD_CMD_READ of .* lies behind the stream, which has reached byte/;
  await trial.fails({ status: 4, message, bytes: 4 * MiB });
});

test(
  "qemu-img gives its status when its source ends early",
  async () => {
    const copy = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "$nbd", "out.qcow2"];
    await using trial = await ReadTrial.run({ exec: `head -c ${END} data` }, copy, WHOLE);
    await trial.fails({ status: 1, message: new RegExp(`truncated: .* ended at byte ${END} of`) });
  },
  IN_TIME,
);

test("a copy that is whole is a success: the tests can tell", async () => {
  await using trial = await ReadTrial.run({ fifo: "cat data" }, [COPY], WHOLE);
  await trial.completes(8 * MiB);
  expect(statSync(trial.file("out")).size).toBe(8 * MiB);
});
