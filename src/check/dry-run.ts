/** A command with a stream as its disk that goes nowhere. */
import { captiveWords, commandOf } from "../captive/command.ts";
import { drainCaptive } from "../captive/drain.ts";
import { runCaptive } from "../captive/run.ts";
import type { Notice } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import { commandFailure, type StreamState, incompleteReason } from "../server/stream-state.ts";
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
 * @returns a number, the exit status, when a signal has put an end to it
 * @throws UserError when the command cannot be started
 */
export async function tryOut(
  command: readonly string[],
  size: bigint | undefined,
  window: number,
  context: CheckContext,
): Promise<Trial | number> {
  const { stopSignal, vocabulary } = context;
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
    async (captive, stream) => {
      const { server } = stream;
      const { state } = server;
      const over = () => state.ended || stopSignal.caught !== undefined;
      await server.until(() => over() || captive.status !== undefined);
      // Of a command that has failed, no more is expected.
      const survivors = captive.status === 0 ? captive.survivors : undefined;
      if (!over()) await drainCaptive({ server, survivors, over });
      await server.sync();
      if (!over()) server.finish("allow");
      await server.until(over);
      if (state.crash !== undefined) throw state.crash;
      if (stopSignal.caught !== undefined) return stream.interrupted();
      const { survey } = server.end ?? {};
      if (survey === undefined) throw new Error("the stream thread has not told what it saw");
      const ended = captive.status ?? signalStatus("SIGKILL");
      const problem = problemOf(ended, state, size);
      const text = problem === undefined ? null : textOf(problem, vocabulary);
      trial = { size: size ?? null, status: ended, problem: text, survey };
      // What it has left running goes with a stream that is truncated.
      return { status: 0, why: problem };
    },
  );
  return trial ?? status;
}

function problemOf(
  status: number,
  state: StreamState,
  size: bigint | undefined,
): Notice | undefined {
  return status === 0 ? incompleteReason(state, "command", size) : commandFailure(state, status);
}
