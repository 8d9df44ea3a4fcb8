/** The end of a stream: waits for it, completes the stream, and decides the verdict. */
import { DeferredSink } from "../endpoint/opening/deferred.ts";
import { closeHandle, type EndpointControl } from "../endpoint/opening/endpoint.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { Notice } from "../messages/notice.ts";
import { NoticeError } from "../messages/notice-error.ts";
import type { Entrance } from "../net/address.ts";
import { signalStatus } from "../process/signals.ts";
import type { ShortStream } from "../stream/messages.ts";
import { decideExitStatus, endedBy, type Verdict } from "./exit-status.ts";
import type { StopSignal } from "./stop-signal.ts";
import type { CompletedBy } from "./stream-state.ts";
import type { StreamServer } from "./stream-server.ts";

/** Milliseconds in which clients get the error of a broken stream, and a captive command can end. */
const ERROR_GRACE = 400;
/** Milliseconds after a signal in which the rest of a complete stream can be emitted. */
export const SIGNAL_GRACE = 500;
/** Milliseconds until a signal is known here that other processes got at the same time. */
const SIGNAL_DELAY = 20;
/** Milliseconds for clients that negotiate to choose a stream, when a held one is at its end. */
const CHOICE_GRACE = 500;

/**
 * The regular end of a stream: clients that are done, or a captive command that has exited. A stop signal, a
 * failure and the end of the stream thread end every stream.
 */
export interface EndCondition {
  readonly completedBy: CompletedBy;
  /** Waits for that end, or until `isOver` holds. */
  done(isOver: () => boolean): Promise<void>;
  /** True when no client is left that has to get the error of a broken stream. */
  isGone(): boolean;
  /**
   * Waits for clients that could still change the stream, or disconnects them.
   *
   * @returns true if the stream may be complete in spite of a stop signal
   */
  drain(): Promise<boolean>;
  /** A stop signal is that end, so that a held stream, of which nothing is out by then, has all the time. */
  readonly endsBySignal?: boolean;
  /** True where a client that comes when a held stream is on its way shows that the clients were not done. */
  mayBeEarly?(): boolean;
  /** The captive command has failed: its own status, and why. */
  commandFailure?(): Verdict | undefined;
  /** A problem with how the clients have left that the state of the stream does not show. */
  problem?(): Notice | undefined;
}

interface RunningStream {
  readonly server: StreamServer;
  readonly endpoint: EndpointControl;
  readonly options: {
    readonly direction: Direction;
    readonly entrance: Entrance;
    readonly short: ShortStream;
    readonly hold: boolean;
    readonly dryRun?: boolean;
    readonly stopSignal: StopSignal;
    readonly exportName: string | undefined;
    readonly several?: object;
  };
}

/** Waits for the end of a stream. @throws the error that has ended the stream thread */
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

/** Emits what is pending, unless the stream is truncated already, and waits for the endpoint. */
async function conclude(stream: RunningStream, condition: EndCondition): Promise<Verdict> {
  const { server, endpoint, options } = stream;
  const { direction, short, stopSignal } = options;
  const { state, size } = server;
  const decide = (problem?: Notice) =>
    decideExitStatus({
      state,
      size,
      exportName: options.several === undefined ? undefined : options.exportName,
      held: options.hold,
      completedBy: condition.completedBy,
      commandFailure: condition.commandFailure?.(),
      problem: condition.problem?.() ?? problem,
    });
  const isHeld = server.phase !== undefined;
  const mayBeEarly = isHeld && condition.mayBeEarly?.() === true;
  if (isHeld) server.closeToClients(mayBeEarly ? "fails" : "refused");
  const early = decide();
  // A dry run has findings only when it is finished.
  if (early.why !== undefined && options.dryRun !== true) return early;
  server.finish(size === undefined ? "allow" : short);
  const stop = noTimeLeft(stream, isHeld && condition.endsBySignal === true);
  const cutShort = () => (server.isGivenUp ? decide() : stopped(stopSignal));
  if (isHeld) {
    const isBroken = () => state.ended || state.failure !== undefined;
    await server.until(() => server.phase === "streaming" || isBroken() || stop.aborted);
  }
  if (endpoint instanceof DeferredSink) {
    const problem = await openNow(stream, endpoint, stop);
    if (problem !== undefined) return stop.aborted ? cutShort() : decide(problem);
  }
  await server.until(() => state.ended || stop.aborted || state.atEnd);
  if (state.atEnd && !state.ended && !stop.aborted) {
    if (mayBeEarly) await untilChosen(server, () => state.ended || stop.aborted);
    // Without another turn of the event loop in between, in which a client might come.
    if (!state.ended && !server.isGivenUp && !stop.aborted) server.confirmEnd();
    await server.until(() => state.ended || stop.aborted);
  }
  if (!state.ended) return cutShort();
  const late = decide();
  if (late.why !== undefined) return late;
  // The rest of the source is not needed, so the exit status of its process does not matter.
  if (direction === "read" && !state.sourceEnded) {
    await endpoint.cancel();
    return late;
  }
  const problem = await endpoint.waitForExit(stop);
  if (problem === undefined) return decide();
  const isStopped = stop.aborted && stopSignal.caught !== undefined;
  return isStopped ? stopped(stopSignal) : decide({ code: "ENDPOINT_FAILED", problem });
}

/**
 * Opens the sink of a stream that was held, once nothing that a client was to send again is missing.
 *
 * @param stop ends the attempt
 * @returns why that is not possible; undefined if it is open, or if the stream has ended
 */
async function openNow(
  { server }: RunningStream,
  sink: DeferredSink,
  stop: AbortSignal,
): Promise<Notice | undefined> {
  const { state, length, phase } = server;
  if (phase !== "streaming" || length === undefined) return undefined;
  try {
    const handle = await sink.open(length, stop);
    if (state.ended) closeHandle(handle);
    else server.sinkOpened(handle);
    return undefined;
  } catch (error) {
    if (!(error instanceof NoticeError)) throw error;
    return error.notice;
  }
}

/** Waits until clients that are connected already have chosen a stream, which may be this one. */
async function untilChosen(server: StreamServer, over: () => boolean): Promise<void> {
  await server.acceptAll();
  const { accepted } = server;
  const isChosen = () => server.isGivenUp || server.negotiating(accepted).count === 0;
  await server.until(() => over() || isChosen(), CHOICE_GRACE);
}

/**
 * Aborted when the end of a complete stream has no time left: after a signal, or where the stream is broken by
 * what its thread does not know of. nbdcopy sends one signal at this point, and then waits. A signal from others
 * means to end soon, and a second one to end now.
 *
 * @param isPatient a signal that has come already leaves all the time
 */
function noTimeLeft({ server, options }: RunningStream, isPatient: boolean): AbortSignal {
  const { stopSignal, entrance } = options;
  const hasTime = entrance.kind === "activated" || (isPatient && stopSignal.caught !== undefined);
  const grace = hasTime ? undefined : SIGNAL_GRACE;
  const stop = new AbortController();
  void (async () => {
    await server.until(() => server.isGivenUp || stopSignal.caught !== undefined);
    await server.until(() => server.isGivenUp || stopSignal.count > 1, grace);
    stop.abort();
    server.poke();
  })();
  return stop.signal;
}

/** Explains a truncated stream by the ends of other processes. */
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
    // A signal may be for all processes, as Ctrl-C is for a captive command too, and their ends may be
    // known before the signal.
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
