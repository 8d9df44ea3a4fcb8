/** A command with a stream as its disk that goes nowhere. */
import { captiveWords, commandOf } from "../captive/command.ts";
import { seeOff } from "../captive/left-behind.ts";
import { runCaptive } from "../captive/run.ts";
import { commandFailure, type Facts, shortcoming } from "../server/facts.ts";
import { signalStatus } from "../process/signals.ts";
import type { Survey } from "../stream/findings.ts";
import { type CheckContext, privateHost } from "./context.ts";

/** One run of the command, and what it has done. */
export interface Trial {
  /** The stream's length in bytes; null is without end. */
  readonly size: bigint | null;
  /** The command's exit status. */
  readonly status: number;
  /** What `run` would say is wrong, the order of the writes aside; null is nothing. */
  readonly problem: string | null;
  readonly survey: Survey;
}

/**
 * Runs the command once.
 *
 * Not with a real stream and a very large window: that would hold in memory all that a client puts
 * behind a gap that it leaves for good, and nothing would be seen beyond the first write that is
 * late even so.
 *
 * @param size the stream's length in bytes; undefined is without end
 * @param window what is ahead of its turn is kept in so much memory, in bytes, to be read back
 * @returns a number, the exit status, when a signal has put an end to it
 * @throws UserError when the command cannot be started
 */
export async function tryOut(
  command: readonly string[],
  size: bigint | undefined,
  window: number,
  context: CheckContext,
): Promise<Trial | number> {
  const { interruption } = context;
  let trial: Trial | undefined;
  const { status } = await runCaptive(
    {
      ...privateHost(context, { pipe: "/dev/null", size, window }),
      survey: true,
      short: "allow",
      address: undefined,
      command: (variables) => captiveWords(commandOf(command), variables),
      outputTaken: true,
    },
    async (captive, hosted) => {
      const { service } = hosted;
      const { facts } = service;
      const over = () => facts.ended || interruption.caught !== undefined;
      await service.until(() => over() || captive.status !== undefined);
      // Of a command that has failed, no more is expected.
      const survivors = captive.status === 0 ? captive.survivors : undefined;
      if (!over()) await seeOff({ service, survivors, over });
      await service.heardAll();
      if (!over()) service.finish("allow");
      await service.until(over);
      if (facts.crash !== undefined) throw facts.crash;
      if (interruption.caught !== undefined) return hosted.interrupted();
      const { survey } = service.end ?? {};
      if (survey === undefined) throw new Error("the stream thread has not told what it saw");
      const ended = captive.status ?? signalStatus("SIGKILL");
      const problem = problemOf(ended, facts, size);
      trial = { size: size ?? null, status: ended, problem, survey };
      // What it has left running goes with a stream that is truncated.
      return { status: 0, why: problem ?? undefined };
    },
  );
  return trial ?? status;
}

function problemOf(status: number, facts: Facts, size: bigint | undefined): string | null {
  if (status !== 0) return commandProblem(status, facts);
  return shortcoming(facts, "command", size) ?? null;
}

function commandProblem(status: number, facts: Facts): string {
  if (facts.readBack === undefined && facts.refused === undefined) {
    return `the command has failed with status ${status}: see its message`;
  }
  return commandFailure(facts, `the command failed with status ${status}`, "see its message");
}
