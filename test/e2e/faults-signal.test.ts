/** Signals while a command takes the stream: it must never see the end of its input. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { bounded, eventually } from "../support/program.ts";
import { MOMENTS } from "../support/moments.ts";
import { CHILD, type SinkChoice, Trial } from "../support/trial.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

describe.each(SIGNALS)("%s", (signal) => {
  describe.each(MOMENTS)("$moment", ({ sinks: [command, pipeline], reach, bytes }) => {
    test.each([
      ["command", command],
      ["pipeline", pipeline],
    ] as [string, SinkChoice][])("does not let a %s commit", async (_, sink) => {
      await using trial = await Trial.serve(sink);
      using client = await trial.client();
      await reach(client, trial);
      trial.program.process.kill(signal);
      const status = 128 + constants.signals[signal];
      const message = new RegExp(`truncated: ended by ${signal}$`);
      await trial.fails({ status, message, ...(bytes === undefined ? {} : { bytes }) });
    });
  });

  test("to run with a command that has its client does not let a pipeline commit", async () => {
    await using trial = await Trial.run("pipeline", [...CHILD, "$unixsocket", "payload"]);
    await trial.program.saying(/is in the payload/);
    trial.program.process.kill(signal);
    const status = 128 + constants.signals[signal];
    await trial.fails({ status, message: new RegExp(`truncated: ended by ${signal}$`) });
  });
});

/**
 * With these, nothing can be put in order: the socket remains, for one.
 *
 * @param captive in the command line of a captive command, which ends as it likes
 */
async function expectKilled(trial: Trial, signal: number, captive?: string): Promise<void> {
  process.kill(trial.program.process.pid, signal as unknown as NodeJS.Signals);
  await bounded(trial.program.process.exited, "the program to be gone");
  const isLeft = (pid: number) => captive === undefined || !lineOf(pid).includes(captive);
  const left = () => trial.processes().filter(isLeft);
  await eventually(() => left().length === 0, "the processes of exec: to be gone");
  expect(trial.sink.committed, "a truncated stream looks whole").toBeFalse();
}

function lineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

test.each([
  ["SIGSTKFLT", constants.signals.SIGSTKFLT],
  ["SIGRTMIN", 34],
] as const)(
  "%s, which cannot be caught here, does not let a pipeline commit",
  async (_, signal) => {
    await using trial = await Trial.serve("pipeline");
    using client = await trial.client();
    expect(await client.write(0, Buffer.alloc(1000))).toBe(0);
    await expectKilled(trial, signal);
  },
);

describe("SIGKILL", () => {
  const { SIGKILL } = constants.signals;

  describe.each(MOMENTS)("$moment", ({ sinks: [command, pipeline], reach }) => {
    test.each([
      ["command", command],
      ["pipeline", pipeline],
    ] as [string, SinkChoice][])("does not let a %s commit", async (_, sink) => {
      await using trial = await Trial.serve(sink);
      using client = await trial.client();
      await reach(client, trial);
      await expectKilled(trial, SIGKILL);
    });
  });

  test("to run does not let a pipeline commit", async () => {
    await using trial = await Trial.run("pipeline", [...CHILD, "$unixsocket", "payload"]);
    await trial.program.saying(/is in the payload/);
    await expectKilled(trial, SIGKILL, "write.child");
  });

  test.each(Array.from({ length: 12 }, (_, i) => i * 15))(
    "%d ms after the start does not let a command commit",
    async (milliseconds) => {
      await using trial = await Trial.run("command", ["sleep", "60"]);
      await Bun.sleep(milliseconds);
      await expectKilled(trial, SIGKILL, "sleep\0");
    },
  );
});

test("what watches the command ends with a good stream, too", async () => {
  await using trial = await Trial.serve("pipeline");
  {
    using client = await trial.client();
    expect(await client.write(0, Buffer.alloc(1000, 7))).toBe(0);
    client.disconnect();
  }
  await bounded(trial.completes(Buffer.alloc(1000, 7)), "the end");
});
