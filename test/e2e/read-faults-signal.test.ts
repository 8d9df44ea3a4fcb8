/** Signals in every phase of a stream that is read: the program ends, and leaves nothing. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { constants } from "node:os";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import type { ReadClient } from "../support/read-client.ts";
import { CHILD, ReadTrial } from "../support/read-trial.ts";
import { GATE } from "../support/base-trial.ts";
import type { SourceChoice } from "../support/sources.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
const STALLING = `head -c ${3 * MiB} data; ${GATE}`;

interface Phase {
  readonly phase: string;
  readonly source: SourceChoice;
  readonly args: readonly string[];
  /** Bytes that have gone by, where that is certain. */
  readonly bytes?: number;
  reach?(client: ReadClient, trial: ReadTrial): Promise<void>;
}

const PHASES: Phase[] = [
  {
    phase: "while it waits for a writer",
    source: { fifo: undefined },
    args: ["size=8M"],
    bytes: 0,
  },
  {
    phase: "while a client waits for a writer",
    source: { fifo: undefined },
    args: ["size=8M", "--writer-timeout=60"],
    bytes: 0,
    async reach(client, trial) {
      client.ask(0, MiB);
      await trial.settled();
    },
  },
  {
    phase: "while it waits for a client",
    source: { exec: "cat data" },
    args: ["size=8M"],
    bytes: 0,
  },
  {
    phase: "between two requests",
    source: { exec: "cat data" },
    args: ["size=8M"],
    bytes: 2 * MiB,
    async reach(client) {
      expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    },
  },
  {
    phase: "with --keep while a client is connected",
    source: { fifo: "cat data" },
    args: ["size=8M", "--keep"],
    bytes: 8 * MiB,
    async reach(client) {
      expect((await client.readAll(0, 8 * MiB, MiB)).error).toBe(0);
    },
  },
  {
    phase: "while the writer stalls in the middle of a request",
    source: { fifo: STALLING },
    args: ["size=8M"],
    async reach(client, trial) {
      client.ask(0, 4 * MiB);
      await trial.settled();
    },
  },
  {
    phase: "while a command stalls in the middle of a request",
    source: { exec: `trap '' TERM INT HUP; ${STALLING}` },
    args: ["size=8M", "window=1M"],
    async reach(client, trial) {
      client.ask(0, 4 * MiB);
      await trial.settled();
    },
  },
  {
    phase: "while the client takes no reply",
    source: { path: "data" },
    args: [],
    async reach(client, trial) {
      client.raw.socket.pause();
      client.ask(0, 8 * MiB);
      await trial.settled();
    },
  },
  {
    phase: "in a jump that would take years",
    source: { exec: "yes" },
    args: [],
    async reach(client, trial) {
      client.ask(2 ** 50, 512);
      await trial.settled();
    },
  },
  {
    phase: "while the end of the source is waited for, with --exact",
    source: { fifo: `cat data; ${GATE}` },
    args: ["size=8M", "--exact"],
    async reach(client, trial) {
      expect((await client.readAll(0, 7 * MiB, MiB)).error).toBe(0);
      client.ask(7 * MiB, MiB);
      await trial.settled();
    },
  },
  {
    phase: "while the end of a command is waited for",
    source: { exec: `trap '' TERM INT HUP; cat data; exec >&-; ${GATE}` },
    args: ["size=8M"],
    async reach(client, trial) {
      expect((await client.readAll(0, 7 * MiB, MiB)).error).toBe(0);
      client.ask(7 * MiB, MiB);
      await trial.settled();
    },
  },
  {
    phase: "while a lost client may come back",
    source: { fifo: "cat data" },
    args: ["size=8M", "--reconnect=60"],
    bytes: 2 * MiB,
    async reach(client, trial) {
      expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
      client.hangUp();
      await trial.program.saying(/a client was lost; it has 60 s to come back/);
    },
  },
];

describe.each(SIGNALS)("%s", (signal) => {
  const status = 128 + constants.signals[signal];
  const message = new RegExp(`truncated: ended by ${signal}$`);

  test.each(PHASES)("ends serve $phase", async ({ source, args, bytes, reach }) => {
    await using trial = await ReadTrial.serve(source, { args, pidFile: true });
    if (reach !== undefined) {
      using client = await trial.reader(true);
      await reach(client, trial);
      trial.program.process.kill(signal);
      await trial.fails({ status, message, bytes });
    } else {
      trial.program.process.kill(signal);
      await trial.fails({ status, message, bytes });
    }
  });

  test("ends run, its command and its source", async () => {
    const exec = `trap '' TERM INT HUP; ${STALLING}`;
    const line = `trap '' TERM INT HUP; ${CHILD.join(" ")} "$unixsocket" "idle state"; sleep 60`;
    await using trial = await ReadTrial.run({ exec }, [line], { args: ["size=8M"] });
    await trial.program.saying(/is in the idle state/);
    trial.program.process.kill(signal);
    await trial.fails({ status, message, bytes: 2 * MiB });
  });

  test("ends run while its command waits for a writer", async () => {
    const line = `echo waiting >&2; exec nbdcopy "$uri" out`;
    await using trial = await ReadTrial.run({ fifo: undefined }, [line], { args: ["size=8M"] });
    await trial.program.saying(/waiting\n/);
    trial.program.process.kill(signal);
    await trial.fails({ status, message, bytes: 0 });
  });
});

test("a signal after all was read, while the writer holds on, ends the wait for it", async () => {
  await using trial = await ReadTrial.serve(
    { fifo: `cat data; ${GATE}; ${GATE}` },
    { args: ["size=8M"] },
  );
  using client = await trial.reader();
  expect((await client.readAll(0, 8 * MiB, MiB)).error).toBe(0);
  client.disconnect();
  await trial.program.saying(/client 1 ended: disconnected/);
  trial.program.process.kill("SIGTERM");
  await trial.fails({ status: 143, message: /truncated: ended by SIGTERM$/, bytes: 8 * MiB });
});

test(
  "with --keep, a signal after the clients have left is a good end",
  async () => {
    await using trial = await ReadTrial.serve(
      { fifo: "cat data" },
      { args: ["size=8M", "--keep"], pidFile: true },
    );
    using client = await trial.reader();
    expect((await client.readAll(0, 8 * MiB, MiB)).error).toBe(0);
    client.disconnect();
    await trial.program.saying(/client 1 ended: disconnected/);
    trial.program.process.kill("SIGTERM");
    await trial.completes(8 * MiB);
  },
  IN_TIME,
);

test("with --keep, a signal before all was read is none", async () => {
  await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M", "--keep"] });
  using client = await trial.reader();
  expect((await client.readAll(0, 4 * MiB, MiB)).error).toBe(0);
  client.disconnect();
  await trial.program.saying(/client 1 ended: disconnected/);
  trial.program.process.kill("SIGTERM");
  const message = /truncated: the clients have read up to byte 4194304 of size=8388608/;
  await trial.fails({ status: 4, message, bytes: 4 * MiB });
});
