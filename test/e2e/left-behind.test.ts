/** What a captive command leaves behind when it ends well: clients, and processes that may be clients. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_STARTTLS,
} from "../../src/protocol/constants.ts";
import { makeCertificates } from "../support/certificates.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest, encodeWrite } from "../support/wire.ts";
import { type Ended, eventually } from "../support/program.ts";
import { ReadTrial } from "../support/read-trial.ts";
import { type BaseTrial, GATE } from "../support/base-trial.ts";
import { tempFolder } from "../support/temp.ts";
import { CHILD, Trial, type TrialOptions } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const WRITTEN = Buffer.alloc(64 * KiB, 7);
const PADDED = Buffer.concat([WRITTEN, Buffer.alloc(MiB - 64 * KiB)]);
/** Shell words of a client that writes WRITTEN and leaves, and of one that only asks. */
const WRITE = `qemu-io -f raw -c 'write -q -P 7 0 64k' "$uri" >&2`;
const ASK = 'nbdinfo "$uri" >&2';
const late = (stage: string) =>
  `${process.execPath} '${join(import.meta.dir, "../support/late.child.ts")}' "$unixsocket" ${stage}`;
/** Shell words that wait until the last process in the background has a name of its own. */
const NAMED = 'while [ "$(cat /proc/$!/comm)" != sleep ]; do sleep 0.02; done;';
/** Shell words of a process that lives for long. */
const SLEEP = `sleep 300 & ${NAMED}`;
/** The same in a session of its own, with nothing of the shell's. */
const DAEMON = `setsid sleep 300 < /dev/null > /dev/null 2>&1 & ${NAMED}`;
const SIZE = { args: ["size=1M"] };

const run = (line: string, options: TrialOptions = SIZE) => Trial.run("command", [line], options);

/** The stream is whole, and so is what the program may leave. @returns the processes that it has left */
async function completesWithout(trial: Trial, whole: Uint8Array): Promise<number[]> {
  const ended = await trial.program.ended();
  expect(ended.status, ended.stderr).toBe(0);
  expect((await trial.sink.output()).equals(whole)).toBeTrue();
  return await left(trial);
}

/** What the program has left, once what it has killed at its end is gone, such as its watchdog. */
async function left(trial: BaseTrial): Promise<number[]> {
  await eventually(() => trial.processes().length < 2, "what was killed to be gone");
  return trial.processes();
}

/** Its port, as the command has told it. */
async function portOf(trial: Trial): Promise<number> {
  await trial.program.saying(/port=\d+\./);
  return Number(/port=(\d+)\./.exec(trial.program.stderr)?.[1]);
}

const TELL_PORT = 'echo "port=$port." >&2';

describe("a process that a command leaves behind, and that is about to connect,", () => {
  /** Ready by then: how long a client takes to start on a busy machine does not matter. */
  const about = (...range: number[]) =>
    `${late("connection ready")} ${range.join(" ")} & until [ -e ready ]; do sleep 0.02; done; exit 0`;

  test.each([
    ["where nobody has connected yet", ""],
    ["where somebody has only asked", `${ASK}; `],
    ["where a part is written", `qemu-io -f raw -c 'write -q -P 7 0 32k' "$uri" >&2; `],
  ])(
    "is waited for %s",
    async (_, before) => {
      const range = before.includes("write") ? [32 * KiB, 32 * KiB] : [];
      await using trial = await run(`${before}${about(...range)}`);
      await trial.completes(PADDED);
    },
    IN_TIME,
  );

  test(
    "is waited for without size=, too",
    async () => {
      await using trial = await run(about(), {});
      await trial.completes(WRITTEN);
    },
    IN_TIME,
  );

  test.each([
    ["in the background", SLEEP],
    ["in a session of its own", DAEMON],
  ])("is named, and ended, if it takes too long %s", async (_, start) => {
    await using trial = await run(`${WRITE}; ${start} exit 0`);
    await trial.fails({
      status: 4,
      message:
        /truncated: the command has ended, but it has left sleep \(\d+\) running with the stream at byte 65536 of size=1048576: wait for it in the command$/,
      whole: PADDED,
      bytes: 64 * KiB,
    });
  });

  test("is named before it is said that nobody has connected", async () => {
    await using trial = await run(`${SLEEP} ${SLEEP} ${SLEEP} ${SLEEP} exit 0`);
    await trial.fails({
      status: 4,
      message:
        /it has left sleep \(\d+\), sleep \(\d+\), sleep \(\d+\) and 1 more running .*: wait for them/,
      bytes: 0,
    });
  });

  test("makes a stream without size= truncated: nobody knows whether it has anything to add", async () => {
    await using trial = await run(`${WRITE}; ${DAEMON} exit 0`, {});
    await trial.fails({
      status: 4,
      message: /running with the stream at byte 65536: wait for it in the command, or give size=/,
      whole: WRITTEN,
    });
  });

  test("has its name on one line, whatever it is", async () => {
    // A process has the name of the file that it executes: proc(5), comm.
    const line = `ln -s "$(command -v sleep)" "$(printf 'a\\nb')"; ./a* 300 & ${NAMED.replace("!= sleep", "= sh")} exit 0`;
    await using trial = await run(line);
    await trial.fails({ status: 4, message: /it has left a\?b \(\d+\) running/ });
  });

  test("does not keep the stream from its end by asking again and again", async () => {
    const line = `${WRITE}; (while :; do ${ASK} > /dev/null; sleep 0.1; done) & exit 0`;
    await using trial = await run(line);
    const ended = await trial.program.ended();
    expect(ended.status).toBe(4);
    expect(ended.stderr).toMatch(/truncated: the command has ended, but it has left .* running/);
    await trial.leavesNothing();
    expect(trial.sink.committed).toBeFalse();
  });
});

describe("a process that lives on when the stream has all that it can have", () => {
  test.each([
    ["written", `qemu-io -f raw -c 'write -q -P 7 0 1M' "$uri" >&2`, Buffer.alloc(MiB, 7)],
    [
      "written and zeroed",
      `qemu-io -f raw -c 'write -q -P 7 0 64k' -c 'write -q -z 64k 960k' "$uri" >&2`,
      PADDED,
    ],
  ])("is left alone: %s up to size=", async (_, write, whole) => {
    await using trial = await run(`${write}; ${DAEMON} exit 0`);
    expect(await completesWithout(trial, whole)).toHaveLength(1);
  });

  test("and a client that has moved nothing, or is negotiating, do not matter", async () => {
    const write = `qemu-io -f raw -c 'write -q -P 7 0 1M' "$uri" >&2`;
    await using trial = await run(`${TELL_PORT}; ${write}; ${DAEMON} ${GATE}`, {
      args: ["size=1M", "-p", "0"],
    });
    const port = await portOf(trial);
    await trial.program.saying(/client 1 ended/);
    using silent = await RawClient.transmission(port);
    using negotiating = await RawClient.negotiating(port);
    trial.openGate();
    expect(await completesWithout(trial, Buffer.alloc(MiB, 7))).toHaveLength(1);
    await Promise.all([silent.closed(), negotiating.closed()]);
  });

  test("matters where data in the window waits for what belongs before it", async () => {
    const write = `qemu-io -f raw -c 'write -q -P 7 0 64k' -c 'write -q -P 7 512k 512k' "$uri" >&2`;
    await using trial = await run(`${write}; ${DAEMON} exit 0`, {
      args: ["size=1M", "window=1M"],
    });
    await trial.fails({ status: 4, message: /it has left sleep .* at byte 65536/, whole: PADDED });
  });

  test("matters where only the sector is zeroed by which qemu-img creates a disk", async () => {
    const line = `qemu-io -f raw -c 'write -q -z 0 512' "$uri" >&2; ${DAEMON} exit 0`;
    await using trial = await run(line, { args: ["size=512"] });
    await trial.fails({ status: 4, message: /it has left sleep/, bytes: 0 });
  });
});

describe("a client that a command leaves behind while it negotiates", () => {
  test(
    "is waited for if it goes on",
    async () => {
      await using trial = await run(`${late("negotiation gate")} & until [ -e gate0 ]; do :; done`);
      await trial.program.saying(/is in the negotiation/);
      writeFileSync(trial.file("gate0"), "");
      await Bun.sleep(100);
      trial.openGate();
      await trial.completes(PADDED);
    },
    IN_TIME,
  );

  test("is told of, and its process ended, if it does not", async () => {
    await using trial = await run(`${ASK}; ${late("negotiation never")} & ${GATE}`);
    await trial.program.saying(/is in the negotiation/);
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /it has left \S+ \(\d+\) running, and a client .* is still negotiating: wait for it/,
      bytes: 0,
    });
  });
});

describe("a client of a command that is no process of its", () => {
  const options = { args: ["size=1M", "-p", "0"] };
  const line = `${TELL_PORT}; ${ASK}; ${GATE}`;

  test(
    "is waited for while it negotiates",
    async () => {
      await using trial = await run(line, options);
      const port = await portOf(trial);
      using client = await RawClient.negotiating(port);
      trial.openGate();
      for (const byte of encodeOption(NBD_OPT_EXPORT_NAME)) {
        await Bun.sleep(60);
        client.send(Buffer.from([byte]));
      }
      await client.receive(10);
      expect(await client.write(0, WRITTEN)).toBe(0);
      client.disconnect();
      await trial.completes(PADDED);
    },
    IN_TIME,
  );

  test("makes the stream truncated if it stops there", async () => {
    await using trial = await run(line, options);
    using client = await RawClient.negotiating(await portOf(trial));
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /a client that it left .* is still negotiating: wait/,
    });
    await client.closed();
  });

  test("makes the stream truncated if it stops before TLS", async () => {
    using folder = tempFolder();
    const { all } = makeCertificates(folder.path);
    const args = [...options.args, "--tls=on", `--tls-certificates=${all}`];
    await using trial = await run(line, { args });
    using client = await RawClient.negotiating(await portOf(trial));
    expect((await client.option(NBD_OPT_STARTTLS)).type).toBe(1);
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /a client that it left .* is still negotiating: wait/,
    });
    await client.closed();
  });

  test("is heard though it was not accepted yet when the command ended", async () => {
    const socket = join("nbd.sock");
    await using trial = await run(`${ASK}; echo $$ > pid; ${GATE}; echo over >&2`, {
      args: ["size=1M", "-U", socket],
    });
    const path = trial.file(socket);
    await eventually(() => pidIn(trial.file("pid")) !== undefined, "the command");
    trial.program.process.kill("SIGSTOP");
    try {
      trial.openGate();
      await eventually(() => !lives(pidIn(trial.file("pid")) as number), "the command to end");
      using client = await RawClient.connect(path);
      client.send(Buffer.from([0, 0, 0, 3]), encodeOption(NBD_OPT_EXPORT_NAME));
      client.send(encodeWrite(0, WRITTEN));
      trial.program.process.kill("SIGCONT");
      await client.receive(18 + 10);
      expect((await client.reply()).error).toBe(0);
      client.disconnect();
      await trial.completes(PADDED);
    } finally {
      trial.program.process.kill("SIGCONT");
    }
  });

  test("does not keep the stream from its end by talk", async () => {
    await using trial = await run(`${WRITE}; ${late("talk")} & ${GATE}`);
    await trial.program.saying(/is in the talk/);
    trial.openGate();
    const ended = await trial.program.ended();
    expect(ended.status).toBe(4);
    expect(ended.stderr).toMatch(/a client that it left behind is still connected: wait for it/);
    await trial.leavesNothing();
  });

  test.each([
    ["that is connected", false],
    ["that has closed its side", true],
  ])("does not keep the stream from its end by taking no answers: one %s", async (_, half) => {
    await using trial = await run(`${TELL_PORT}; ${WRITE}; ${GATE}`, {
      args: ["size=1G", "-p", "0"],
    });
    using deaf = await RawClient.transmission(await portOf(trial));
    await trial.program.saying(/client \d ended: disconnected/);
    deaf.socket.pause();
    deaf.send(encodeRequest(NBD_CMD_READ, MiB, 32 * MiB), encodeRequest(NBD_CMD_DISC, 0, 0));
    if (half) deaf.socket.end();
    await Bun.sleep(100);
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /a client that it left behind is still connected: wait for it/,
      whole: WRITTEN,
    });
  });

  test("does not keep the stream from its end by waiting for one that is silent", async () => {
    const stopped = `${CHILD.join(" ")} "$unixsocket" payload`;
    await using trial = await run(`${stopped} & ${GATE}`, { args: ["size=1M", "-U", "nbd.sock"] });
    await trial.program.saying(/is in the payload/);
    using waiting = await RawClient.transmission(trial.file("nbd.sock"));
    waiting.send(encodeWrite(128 * KiB, WRITTEN));
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /connection ended 32768 bytes before/,
      bytes: 96 * KiB,
    });
  });
});

describe("a client that was lost, and has not come back when the command ends,", () => {
  const line = `${CHILD.join(" ")} "$unixsocket" "idle state" & wait $!; exit 0`;

  test.each([["1"], ["60"]])("makes the stream truncated, with --reconnect=%s", async (seconds) => {
    await using trial = await run(line, { args: ["size=1M", `--reconnect=${seconds}`] });
    await trial.signalChild("SIGKILL");
    await trial.fails({
      status: 4,
      message: /truncated: a client left without NBD_CMD_DISC/,
      bytes: 64 * KiB,
    });
  });
});

describe("of a stream that is read,", () => {
  const read = (line: string) => ReadTrial.run({ exec: "cat data" }, [line], { args: ["size=8M"] });

  test(
    "a process that is about to read it is waited for",
    async () => {
      await using trial = await read(`(sleep 0.05; exec nbdcopy "$uri" out) & exit 0`);
      await trial.completes(8 * MiB);
      expect(readFileSync(trial.file("out")).equals(readFileSync(trial.file("data")))).toBeTrue();
    },
    IN_TIME,
  );

  test("a process that lives on when a part is read makes it truncated", async () => {
    await using trial = await read(`qemu-io -r -f raw -c 'read -q 0 2M' "$uri"; ${DAEMON} exit 0`);
    await trial.fails({
      status: 4,
      message: /it has left sleep \(\d+\) running with the stream at byte 2097152 of size=8388608/,
      bytes: 2 * MiB,
    });
  });

  test("a process that lives on when all is read is left alone", async () => {
    await using trial = await read(`nbdcopy "$uri" out; ${DAEMON} exit 0`);
    const ended: Ended = await trial.program.ended();
    expect(ended.status, ended.stderr).toBe(0);
    expect(await left(trial)).toHaveLength(1);
  });

  test("a client that is negotiating makes it truncated", async () => {
    await using trial = await read(`${late("negotiation never")} & ${GATE}`);
    await trial.program.saying(/is in the negotiation/);
    trial.openGate();
    await trial.fails({ status: 4, message: /is still negotiating: wait for it/, bytes: 0 });
  });
});

function pidIn(path: string): number | undefined {
  try {
    return Number(readFileSync(path, "utf8")) || undefined;
  } catch {
    return undefined;
  }
}

/** A process that has ended, and that nobody has reaped, does not. */
function lives(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

describe("a client that is gone before anybody has heard what it said", () => {
  const words = [
    "Buffer.from([0, 0, 0, 3])",
    // NBD_OPT_GO for the default export.
    'Buffer.from("49484156454f5054000000070000000600000000" + "0000", "hex")',
  ];
  test.each([1, 2])(
    "has truncated the stream, though its command hides it (%d parts)",
    async (n) => {
      const script = `const s = require("node:net").connect(process.env.unixsocket, () => { ${words
        .slice(0, n)
        .map((word) => `s.write(${word});`)
        .join(" ")} s.end(() => process.exit()); })`;
      const line = `nbdinfo "$uri" >&2; ${process.execPath} -e '${script}'; exit 0`;
      await using trial = await Trial.run("command", [line], { args: ["size=64k"] });
      await trial.fails({ status: 4, message: /truncated: a client left without NBD_CMD_DISC/ });
    },
  );
});
