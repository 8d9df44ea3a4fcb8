/** What becomes of a stream whose captive command is missing, fails, dies, or leaves others behind. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { CHILD, GATE, Trial } from "../support/trial.ts";
import { LIMIT } from "../support/limit.ts";
import { quoted } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const KiB = 1024;
const WRITTEN = Buffer.alloc(64 * KiB, 7);
/** Shell words of a client that writes WRITTEN and leaves, and of one that writes and stays. */
const WRITE = `qemu-io -f raw -c 'write -P 7 0 64k' "$uri"`;
const STAY = `${CHILD.join(" ")} "$unixsocket" "idle state"`;

describe.each(["FIFO", "command"] as const)("with a %s as the sink, a command", (sink) => {
  test("that is missing is named, and nothing is left", async () => {
    await using trial = await Trial.run(sink, ["no-such-command", "$uri"]);
    await trial.fails({ status: 127, message: /cannot run no-such-command: .*; install it/ });
  });

  test("that is not executable is named, and nothing is left", async () => {
    await using trial = await Trial.run(sink, ["/etc/passwd", "$uri"]);
    await trial.fails({ status: 126, message: /cannot run \/etc\/passwd: / });
  });

  test.each([
    { how: "fails", line: "exit 7", status: 7 },
    { how: "kills itself", line: "kill -9 $$", status: 137 },
    { how: "fails and leaves a process in the background", line: "sleep 60 & exit 7", status: 7 },
    {
      how: "fails and leaves a process in a session of its own",
      line: "setsid sh -c 'trap \"\" TERM; sleep 60; sleep 60' & exit 7",
      status: 7,
    },
  ])("that writes and then $how gives its status", async ({ line, status }) => {
    await using trial = await Trial.run(sink, [`${WRITE}; ${line}`]);
    const message = /truncated: the command failed with the stream at byte 65536: see its message/;
    const output = await trial.fails({ status, message, whole: WRITTEN, bytes: WRITTEN.length });
    if (sink === "FIFO") expect(output).toHaveLength(WRITTEN.length);
  });

  test("that fails and leaves processes that are soon others leaves none", async () => {
    // Each lives for a moment, and has then started the next one.
    const next = `[ $1 -gt 0 ] || { : > "$2$$"; exit; }; sleep 0.02; sh -c "$0" "$0" $(($1 - 1)) "$2" & exit`;
    const last = folder.file(`last-${sink}-`);
    const begin = `sh -c "$next" "$next" 300 ${last} &`;
    const line = `trap '' TERM; next=${quoted(next)}; ${begin.repeat(8)} exit 7`;
    await using trial = await Trial.run(sink, [`${WRITE}; ${line}`]);
    const message = /truncated: the command failed with the stream at byte 65536: see its message/;
    await trial.fails({ status: 7, message, whole: WRITTEN, bytes: WRITTEN.length });
    expect(readdirSync(folder.path).filter((name) => name.startsWith(`last-${sink}-`))).toEqual([]);
  });

  test("that is killed while its client is connected takes the client along", async () => {
    await using trial = await Trial.run(sink, [`${STAY} & echo "I am $$." >&2; ${GATE}`]);
    await trial.program.saying(/is in the idle state/);
    await trial.program.saying(/I am [0-9]+\./);
    process.kill(Number(/I am ([0-9]+)\./.exec(trial.program.stderr)?.[1]), "SIGKILL");
    const message = /truncated: the command failed with the stream at byte 65536: see its message/;
    await trial.fails({ status: 137, message, bytes: 64 * KiB });
  });

  test.each([
    { where: "in the background", start: STAY },
    { where: "in a session of its own", start: `setsid ${STAY}` },
  ])("that leaves a silent client $where is told so", async ({ start }) => {
    await using trial = await Trial.run(sink, [`${start} & ${GATE}`]);
    await trial.program.saying(/is in the idle state/);
    trial.openGate();
    await trial.fails({
      status: 4,
      message: /truncated: .* a client that it left behind is still connected: wait for it/,
      bytes: 64 * KiB,
    });
  });

  test("that leaves a client in the middle of a payload is told so", async () => {
    await using trial = await Trial.run(sink, [
      `${CHILD.join(" ")} "$unixsocket" payload & ${GATE}`,
    ]);
    await trial.program.saying(/is in the payload/);
    trial.openGate();
    const message = /truncated: the client's connection ended 32768 bytes before the end/;
    await trial.fails({ status: 4, message, bytes: 96 * KiB });
  });
});

test("a command that does not care for a broken stream does not go on for ever", async () => {
  const line = `trap '' TERM INT HUP; while :; do ${WRITE}; sleep 0.1; done`;
  await using trial = await Trial.run("FIFO", [line]);
  await trial.fails({
    status: 4,
    message: /truncated: NBD_CMD_WRITE of 65536 bytes at 0 lies behind the stream, .* byte 65536/,
    whole: WRITTEN,
    bytes: WRITTEN.length,
  });
});
