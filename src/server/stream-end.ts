/** The end of a stream: what may bring it about, and what follows. */
import type { Endpoint } from "../endpoint/opening/endpoint.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { Notice } from "../messages/notice.ts";
import type { Entrance } from "../net/address.ts";
import { signalStatus } from "../process/signals.ts";
import type { ShortStream } from "../stream/messages.ts";
import { decideExitStatus, endedBy, type Verdict } from "./exit-status.ts";
import type { StopSignal } from "./stop-signal.ts";
import type { CompletedBy } from "./stream-state.ts";
import type { StreamServer } from "./stream-server.ts";

/** Milliseconds for clients to get the error of a broken stream, and for a captive command to end of it. */
const ERROR_GRACE = 400;
/** Milliseconds for what is complete to get to where it belongs when a signal has asked for the end. */
export const SIGNAL_GRACE = 500;
/** Milliseconds in which a signal is heard of that others have got at the same time. */
const SIGNAL_DELAY = 20;

/**
 * What ends a stream that nothing else ends: clients that are done, or a captive command that has exited. A
 * stop signal, a failure and the end of the stream thread end every stream.
 */
export interface EndCondition {
  /** Who says that the data is all there. */
  readonly completedBy: CompletedBy;
  /** Waits until all is done, or until `isOver` holds. */
  done(isOver: () => boolean): Promise<void>;
  /** True when no client is left that has to learn that the stream is broken. */
  isGone(): boolean;
  /**
   * Waits for clients that could still change the stream, or lets them go.
   *
   * @returns true where the stream may be complete though there was a stop signal
   */
  drain(): Promise<boolean>;
  /** The captive command has failed: its own status, and why. */
  commandFailure?(): Verdict | undefined;
  /** What is wrong with how the clients have left, beyond what the state of the stream tells. */
  problem?(): Notice | undefined;
}

/** A stream that runs. */
interface RunningStream {
  readonly server: StreamServer;
  readonly endpoint: Endpoint;
  readonly options: {
    readonly direction: Direction;
    readonly entrance: Entrance;
    readonly short: ShortStream;
    /** True for a dry run. */
    readonly dryRun?: boolean;
    readonly stopSignal: StopSignal;
  };
}

/** Sees a stream through to its end. @throws what the stream thread has died of */
export async function awaitEnd(stream: RunningStream, condition: EndCondition): Promise<Verdict> {
  const { server } = stream;
  const { state } = server;
  const { stopSignal } = stream.options;
  const isStopped = () => stopSignal.caught !== undefined;
  const isOver = () => isStopped() || state.ended || state.failure !== undefined;
  await condition.done(isOver);
  if (state.failure !== undefined) {
    const isGone = () => isStopped() || state.ended || condition.isGone();
    await server.until(isGone, ERROR_GRACE);
  }
  const mayBeComplete = await condition.drain();
  if (isStopped() && !mayBeComplete) return stopped(stopSignal);
  return await explained(await conclude(stream, condition), stream);
}

/** Has what is pending brought out, unless the stream is truncated already, and waits for the endpoint. */
async function conclude(stream: RunningStream, condition: EndCondition): Promise<Verdict> {
  const { server, endpoint, options } = stream;
  const { direction, short, stopSignal } = options;
  const { state, size } = server;
  const decide = (problem?: Notice) =>
    decideExitStatus({
      state,
      size,
      completedBy: condition.completedBy,
      commandFailure: condition.commandFailure?.(),
      problem: condition.problem?.() ?? problem,
    });
  const early = decide();
  // A dry run tells what it has found when it is finished.
  if (early.why !== undefined && options.dryRun !== true) return early;
  server.finish(size === undefined ? "allow" : short);
  const stop = noTimeLeft(stream);
  await server.until(() => state.ended || stop.aborted);
  if (!state.ended) return stopped(stopSignal);
  const late = decide();
  if (late.why !== undefined) return late;
  // The rest of a source is not wanted: how its process ends does not matter.
  if (direction === "read" && !state.sourceEnded) {
    await endpoint.cancel();
    return late;
  }
  const problem = await endpoint.waitForExit(stop);
  if (problem === undefined) return decide();
  return stop.aborted ? stopped(stopSignal) : decide({ code: "ENDPOINT_FAILED", problem });
}

/**
 * Aborted when a signal leaves no time any more for the end of a stream that is all there. nbdcopy sends
 * one at this point, and then waits; from others it is a wish to end soon, and a second one to end now.
 */
function noTimeLeft({ server, options }: RunningStream): AbortSignal {
  const { stopSignal, entrance } = options;
  const patience = entrance.kind === "activated" ? undefined : SIGNAL_GRACE;
  const stop = new AbortController();
  void (async () => {
    await server.until(() => stopSignal.caught !== undefined);
    await server.until(() => stopSignal.count > 1, patience);
    stop.abort();
    server.poke();
  })();
  return stop.signal;
}

/** Adds what the ends of other processes have to say about a stream that is truncated. */
async function explained(
  verdict: Verdict,
  { server, endpoint, options }: RunningStream,
): Promise<Verdict> {
  const { stopSignal } = options;
  const { status, why } = verdict;
  if (why === undefined || why.code === "STOPPED") return verdict;
  const { failure } = server.state;
  const gone = why === failure && failure.code === "READER_GONE" ? failure : undefined;
  const how = gone && (await endpoint.describeExit?.());
  const { killedBy } = endpoint;
  if (killedBy !== undefined || status > 128) {
    // A signal may be for all processes alike, as Ctrl-C is for a captive command, and then their ends
    // may be heard of first.
    await server.until(() => stopSignal.caught !== undefined, SIGNAL_DELAY);
    const { caught } = stopSignal;
    if (caught !== undefined && (caught === killedBy || signalStatus(caught) === status)) {
      return stopped(stopSignal);
    }
  }
  if (gone === undefined || how === undefined) return verdict;
  return { status, why: { code: "READER_ENDED", failure: gone, how } };
}

function stopped({ caught = "SIGTERM" }: StopSignal): Verdict {
  return endedBy(caught);
}
