/** A command with a stream as its disk that goes nowhere. */
import { captiveWords, commandOf } from "../captive/command.ts";
import { run } from "../captive/run.ts";
import { signalStatus } from "../process/signals.ts";
import type { DryRunFindings } from "../stream/dry-run-findings.ts";
import { type CheckContext, privateHost } from "./context.ts";

/** One run of the command, and what it has done. */
export interface Trial {
  /** The stream's length in bytes; null is without end. */
  readonly size: bigint | null;
  /** The command's exit status. */
  readonly status: number;
  /** What `run` would say is wrong, the order of the writes aside; null is nothing. */
  readonly problem: string | null;
  readonly survey: DryRunFindings;
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
 * @returns undefined when a signal has put an end to it
 * @throws UserError when the command cannot be started
 */
export async function tryOut(
  command: readonly string[],
  size: bigint | undefined,
  window: number,
  context: CheckContext,
): Promise<Trial | undefined> {
  const { why, commandStatus, findings } = await run({
    ...privateHost(context, { pipe: "/dev/null", size, window }),
    survey: true,
    short: "allow",
    address: undefined,
    command: (variables) => captiveWords(commandOf(command), variables),
    outputTaken: true,
  });
  if (context.stopSignal.caught !== undefined) return undefined;
  if (findings === undefined) throw new Error("the stream thread has not told what it saw");
  const status = commandStatus ?? signalStatus("SIGKILL");
  return { size: size ?? null, status, problem: why ?? null, survey: findings };
}
