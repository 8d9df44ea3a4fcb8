/** Every way to truncate a stream, into every kind of sink: it never looks like success. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { encodeRequest } from "../support/wire.ts";
import { start } from "../support/program.ts";
import { SINKS } from "../support/sinks.ts";
import {
  CHILD,
  DATA,
  ERROR,
  GATE,
  type SinkChoice,
  Trial,
  type TrialOptions,
  writeAll,
} from "../support/trial.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const WRITTEN = Buffer.alloc(64 * KiB, 7);
/** Shell words of a client that writes WRITTEN and leaves in order. */
const WRITE = `qemu-io -f raw -c 'write -P 7 0 64k' "$uri" >&2`;
/** Shell words of a client that writes and then stops in the idle state, a header or a payload. */
const stopIn = (stage: string) => `${CHILD.join(" ")} "$unixsocket" "${stage}"`;

interface Fault {
  readonly fault: string;
  readonly status: number;
  readonly whole?: Uint8Array;
  /** Starts a stream and truncates it. */
  truncate(sink: SinkChoice): Promise<Trial>;
}

const FAULTS: Fault[] = [
  ...["idle state", "header", "payload"].flatMap((stage): Fault[] => [
    {
      fault: `a client that is killed in the ${stage}`,
      status: 4,
      truncate: (sink) => killedClient(sink, stage),
    },
    {
      fault: `a client that is killed in the ${stage} and never uses --reconnect`,
      status: 4,
      truncate: (sink) => killedClient(sink, stage, { args: ["--reconnect=0.2"] }),
    },
    {
      fault: `a captive command that is killed with its client in the ${stage}`,
      status: 137,
      async truncate(sink) {
        const trial = await Trial.run(sink, [...CHILD, "$unixsocket", stage]);
        await trial.signalChild("SIGKILL");
        return trial;
      },
    },
    {
      fault: `a captive command that leaves a client in the ${stage}`,
      status: 4,
      async truncate(sink) {
        const trial = await Trial.run(sink, [`${stopIn(stage)} & ${GATE}`]);
        await trial.program.saying(/is in the/);
        trial.openGate();
        return trial;
      },
    },
  ]),
  ...["header", "payload"].map((stage) => ({
    fault: `a captive command that ignores that its client was killed in the ${stage}`,
    status: 4,
    async truncate(sink: SinkChoice) {
      const trial = await Trial.run(sink, [`${stopIn(stage)} & wait $!; exit 0`]);
      await trial.signalChild("SIGKILL");
      return trial;
    },
  })),
  {
    fault: "a captive command that ignores a lost client of --reconnect",
    status: 4,
    async truncate(sink) {
      const line = `${stopIn("payload")} & wait $!; exit 0`;
      const trial = await Trial.run(sink, [line], { args: ["--reconnect=0.2"] });
      await trial.signalChild("SIGKILL");
      return trial;
    },
  },
  {
    fault: "a captive command that fails after a good copy",
    status: 3,
    whole: WRITTEN,
    truncate: (sink) => Trial.run(sink, [`${WRITE}; exit 3`]),
  },
  {
    fault: "a backward write",
    status: 4,
    async truncate(sink) {
      const trial = await Trial.serve(sink);
      using client = await trial.client();
      expect(await writeAll(client, DATA.subarray(0, MiB))).toBe(0);
      expect(await client.write(0, DATA.subarray(0, 4 * KiB))).toBe(ERROR.EIO);
      client.disconnect();
      return trial;
    },
  },
  {
    fault: "a backward write that the command ignores",
    status: 4,
    whole: WRITTEN,
    truncate: (sink) => Trial.run(sink, [`${WRITE}; ${WRITE}; exit 0`]),
  },
  {
    fault: "a refused WRITE past the end",
    status: 4,
    async truncate(sink) {
      const trial = await Trial.serve(sink, { args: ["size=1M", "--pad"] });
      using client = await trial.client();
      expect(await client.write(0, DATA.subarray(0, 64 * KiB))).toBe(0);
      expect(await client.write(MiB, DATA.subarray(0, 4 * KiB))).toBe(ERROR.ENOSPC);
      client.disconnect();
      return trial;
    },
  },
  {
    fault: "refused zeroes past the end",
    status: 4,
    async truncate(sink) {
      const trial = await Trial.serve(sink, { args: ["size=1M"] });
      using client = await trial.client();
      expect(await client.write(0, DATA.subarray(0, 64 * KiB))).toBe(0);
      expect(await client.writeZeroes(MiB, 4 * KiB)).toBe(ERROR.ENOSPC);
      client.disconnect();
      return trial;
    },
  },
  {
    fault: "a signal in the middle of a payload",
    status: 143,
    async truncate(sink) {
      const trial = await Trial.serve(sink);
      using client = await trial.client();
      client.send(encodeRequest(NBD_CMD_WRITE, 0, MiB), DATA.subarray(0, 5000));
      await trial.settled();
      trial.program.process.kill("SIGTERM");
      await trial.program.ended();
      return trial;
    },
  },
  {
    fault: "a signal with --keep while a client is connected",
    status: 143,
    async truncate(sink) {
      const trial = await Trial.serve(sink, { args: ["--keep"] });
      using client = await trial.client();
      expect(await client.write(0, DATA.subarray(0, 64 * KiB))).toBe(0);
      trial.program.process.kill("SIGTERM");
      await trial.program.ended();
      return trial;
    },
  },
];

describe.each(FAULTS)("$fault", ({ status, whole = DATA, truncate }) => {
  test.each(SINKS)("truncates a stream to a %s", async (sink) => {
    await using trial = await truncate(sink);
    await trial.fails({ status, message: /truncated: \S/, whole });
  });
});

describe("a sink that does not take all of it", () => {
  const gone: { kind: string; sink: SinkChoice; options?: TrialOptions }[] = [
    { kind: "FIFO", sink: { fifo: "head -c 1000" } },
    { kind: "file", sink: "file", options: { shell: "ulimit -f 2048; " } },
    { kind: "socket", sink: { socket: 1000 } },
    {
      kind: "command",
      sink: { exec: "head -c 1000 > part && kill -9 $$; echo committed > done" },
    },
    // It is the last that leaves: whoever reads from one that leaves sees an end.
    {
      kind: "pipeline",
      sink: { exec: "cat | { head -c 1000 > part && exit 1; echo committed > done; }" },
    },
  ];

  test.each(gone)("truncates a stream of serve to a $kind", async ({ sink, options }) => {
    await using trial = await Trial.serve(sink, options);
    using client = await trial.client();
    expect(await writeAll(client, DATA, 4 * KiB)).toBeGreaterThan(0);
    await trial.fails({ status: 4, message: /truncated: \S/ });
  });

  test.each(gone)("truncates a stream of run to a $kind", async ({ sink, options }) => {
    const line = `qemu-io -f raw -c 'write -P 7 0 8M' "$uri" >&2; exit 0`;
    await using trial = await Trial.run(sink, [line], options);
    await trial.fails({ status: 4, message: /truncated: \S/, whole: Buffer.alloc(8 * MiB, 7) });
  });
});

test.each(SINKS)(
  "a stream to a %s that is whole is a success: the tests can tell",
  async (sink) => {
    await using trial = await Trial.run(sink, [WRITE]);
    await trial.completes(WRITTEN);
    expect(trial.sink.committed).toBe(sink === "command" || sink === "pipeline");
  },
);

async function killedClient(
  sink: SinkChoice,
  stage: string,
  options: TrialOptions = {},
): Promise<Trial> {
  const trial = await Trial.serve(sink, options);
  await using client = start([...CHILD, trial.socket, stage]);
  await trial.signalChild("SIGKILL", client);
  return trial;
}
