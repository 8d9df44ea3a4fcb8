/** Sets up everything that streams need, and cleans up behind them. */
import { close } from "../../ffi/fd.ts";
import { cleaningUp } from "../clean-up.ts";
import { DeferredSink, isDeferred, openDeferred } from "../endpoint/opening/deferred.ts";
import { closeHandle, type Endpoint } from "../endpoint/opening/endpoint.ts";
import { openEndpoint } from "../endpoint/opening/open.ts";
import { endpointText, mayKnowLength, UnusableError } from "../endpoint/spec.ts";
import { about, messageOf } from "../errors.ts";
import { NoticeError, optionError } from "../messages/notice-error.ts";
import { planOf, type SpoolHandle } from "../stream/messages.ts";
import type { EndSignal } from "../process/signals.ts";
import type { Verdict } from "./exit-status.ts";
import { NbdServer } from "./nbd-server.ts";
import type { HostOptions } from "./settings.ts";
import { endedBefore } from "./stop-signal.ts";
import type { PidFile } from "./pid-file.ts";
import { awaitEnd, type EndCondition } from "./stream-end.ts";
import { StreamServer } from "./stream-server.ts";
import type { StreamResult } from "./summary.ts";

/** The parameter of `body`. */
export interface HostedStream<Options = HostOptions> {
  readonly server: StreamServer;
  readonly options: Options;
  /** Waits for the end of the stream, and decides on it. */
  awaitEnd(condition: EndCondition): Promise<Verdict>;
  /**
   * Cancels the endpoint of a truncated stream, so that its reader cannot take the stream for complete.
   * Without a call, {@link host} does so as soon as there is a verdict.
   */
  cancel(): Promise<void>;
}

/**
 * Runs streams behind one server, and `body` for each of them. The streams begin together: if one of them
 * cannot, none does.
 *
 * @param streams have the settings of the server, `pidFile`, `beforeStart` and `several` in common
 * @returns the results in the same order, when all have ended
 * @throws UserError when a stream cannot begin
 */
export async function host<Options extends HostOptions>(
  streams: readonly Options[],
  body: (stream: HostedStream<Options>, nbd: NbdServer) => Promise<Verdict>,
): Promise<StreamResult[]> {
  const common = streams[0] as Options;
  // Before anything is started or connected to, where the endpoint cannot know the length either.
  for (const options of streams) {
    const { direction, size, spec } = options;
    if (size !== undefined || (direction === "read" && mayKnowLength(spec))) continue;
    await aboutStream(options, () => requireSize(options));
  }
  // Loaded only if it is needed, because loading takes time.
  const pidFiles = common.pidFile === undefined ? undefined : await import("./pid-file.ts");
  if (common.pidFile !== undefined) pidFiles?.requirePidFile(common.pidFile);
  let pidFile: PidFile | undefined;
  const nbd = new NbdServer({
    ...common,
    log: common.serverLog ?? common.log,
    exports: streams.length,
    onListening: () => {
      if (pidFiles !== undefined) pidFile = new pidFiles.PidFile(common.pidFile as string);
      common.beforeStart?.();
    },
  });
  const running = new Set<StreamServer>();
  const errors: unknown[] = [];
  const failed = ({ exportName = "" }: HostOptions) => {
    if (common.several?.failFast !== true) return;
    for (const server of running) server.giveUp(exportName);
  };
  return await cleaningUp(
    async () => {
      const hosted = streams.map(async (options) => {
        let server: StreamServer | undefined;
        try {
          const result = await hostStream(options, nbd, async (stream) => {
            ({ server } = stream);
            running.add(server);
            const verdict = await body(stream, nbd);
            running.delete(server);
            if (verdict.why !== undefined) failed(options);
            return verdict;
          });
          options.onEnd?.(result);
          return result;
        } catch (error) {
          errors.push(error);
          nbd.fail(error);
          if (server !== undefined) running.delete(server);
          failed(options);
          return undefined;
        }
      });
      const results = await Promise.all(hosted);
      // All of them have cleaned up before the first error, which is the cause of others, goes on.
      if (errors.length > 0) throw errors[0];
      return results as StreamResult[];
    },
    () => nbd.end(),
    () => pidFile?.remove(),
  );
}

/**
 * Runs `body` with one stream. Whatever happens, nothing is left behind: no socket, no thread, no process,
 * no pid file, and no FIFO that was not there before.
 */
async function hostStream<Options extends HostOptions>(
  options: Options,
  nbd: NbdServer,
  body: (stream: HostedStream<Options>) => Promise<Verdict>,
): Promise<StreamResult> {
  const spool = await aboutStream(options, () => makeSpool(options));
  const endpoint = await aboutStream(options, () => prepare(options, spool));
  return await cleaningUp(
    async () => {
      const server = await begin(options, endpoint, spool, nbd);
      const { stopSignal, observer } = options;
      endpoint.follow?.(() => server.counters.emitted);
      const unsubscribe = stopSignal.subscribe(() => server.poke());
      let verdict: Verdict | undefined;
      await cleaningUp(
        async () => {
          await nbd.listening;
          observer.watch(server, { uri: server.uri, serverUri: nbd.uri() });
          verdict = await body({
            server,
            options,
            awaitEnd: (condition) => awaitEnd({ server, endpoint, options }, condition),
            cancel: () => endpoint.cancel(),
          });
        },
        // In this order, because a reader sees an abort as end of file.
        async () => {
          if (verdict === undefined || verdict.why !== undefined) await endpoint.cancel();
        },
        () => {
          if (!server.state.ended) server.abort();
        },
        () => server.close(),
        () => {
          if (server.stillborn) closeUntaken(endpoint, spool);
        },
        unsubscribe,
        () => observer.end(),
      );
      const ended = verdict as unknown as Verdict;
      return { ...ended, summary: server.summary(ended), findings: server.end?.dryRun };
    },
    () => endpoint.remove(),
  );
}

/** Lets errors name one of several streams; those of the server, of the command and of a signal are nobody's own. */
async function aboutStream<T>(
  { several, exportName = "", stopSignal }: HostOptions,
  work: () => T | Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const isStopped = stopSignal.caught !== undefined;
    throw several === undefined || isStopped ? error : about(exportName, error);
  }
}

/** Refuses a stream without a size where something needs it, such as padding. */
function requireSize({ direction, needsSize }: HostOptions): void {
  if (needsSize !== undefined)
    throw optionError({ code: "SIZE_NEEDED", direction, who: needsSize });
}

/** Starts the server; if that fails, cancels the endpoint as for a truncated stream. */
async function begin(
  options: HostOptions,
  endpoint: Endpoint | DeferredSink,
  spool: SpoolHandle | undefined,
  nbd: NbdServer,
): Promise<StreamServer> {
  const opened = endpoint instanceof DeferredSink ? undefined : endpoint;
  try {
    const size = options.size ?? opened?.length;
    if (options.direction === "read" && size === undefined) {
      await aboutStream(options, () => requireSize(options));
      options.log.warn({ code: "LENGTH_UNKNOWN", source: endpoint.name });
    }
    await nbd.prepared();
    const { hasExitStatus: awaitsExit } = endpoint;
    const single = options.entrance.kind === "single";
    const plan = planOf(options, { size, endpoint: opened?.handle, spool, awaitsExit, single });
    return new StreamServer({ ...options, endpoint, plan, nbd });
  } catch (error) {
    return await cleaningUp<never>(
      () => {
        throw error;
      },
      () => endpoint.cancel(),
      () => closeUntaken(endpoint, spool),
    );
  }
}

/** Closes what no stream thread closes; the process at the other end would wait for ever. */
function closeUntaken(endpoint: Endpoint | DeferredSink, spool: SpoolHandle | undefined): void {
  if (spool !== undefined) close(spool.fd);
  if (!(endpoint instanceof DeferredSink)) closeHandle(endpoint.handle);
}

/** Makes the file of `spool=`. @throws UserError */
async function makeSpool({
  spool: folder,
  hold,
  log,
  onSpool,
}: HostOptions): Promise<SpoolHandle | undefined> {
  if (folder === undefined) return undefined;
  // Loaded only if it is needed, because loading takes time.
  const { describeFileSystem, FolderError, makeUnnamed } = await import("../files/unnamed.ts");
  try {
    const file = makeUnnamed(folder, !hold);
    const holes = file.punches ? "" : ", without holes";
    log.verbose(`the spool is in ${folder}: ${describeFileSystem(file.fd)}${holes}`);
    try {
      onSpool?.(file.fd);
    } catch (error) {
      close(file.fd);
      throw new FolderError(messageOf(error), "raise ulimit -n");
    }
    return { ...file, folder };
  } catch (error) {
    if (!(error instanceof FolderError)) throw error;
    const { message: why, hint } = error;
    throw new NoticeError("ERR_FILE", { code: "SPOOL_UNUSABLE", folder, why, hint });
  }
}

/** Closes the spool if that fails. */
async function prepare(
  options: HostOptions,
  spool: SpoolHandle | undefined,
): Promise<Endpoint | DeferredSink> {
  const { spec, hold, dryRun } = options;
  try {
    if (!hold || dryRun === true || !isDeferred(spec)) return await openOrExplain(options);
    const open = (size: bigint, stop: AbortSignal) => openOrExplain({ ...options, size }, stop);
    return new DeferredSink(endpointText(spec), open);
  } catch (error) {
    if (spool !== undefined) close(spool.fd);
    throw error;
  }
}

/** @param late of a stream that has begun: ends the attempt in place of a signal. @throws UserError */
async function openOrExplain(options: HostOptions, late?: AbortSignal): Promise<Endpoint> {
  const { spec, direction, size, exportName, stopSignal } = options;
  const raise = (signal: EndSignal) => stopSignal.raise(signal);
  const facts = { size, exportName };
  try {
    if (late !== undefined) return await openDeferred(spec, facts, { stop: late, raise });
    return await openEndpoint(spec, direction, facts, { stop: stopSignal.stop, raise });
  } catch (error) {
    if (late === undefined && stopSignal.caught !== undefined) throw endedBefore(stopSignal.caught);
    const unusable = error instanceof UnusableError;
    throw new NoticeError("ERR_PIPE", {
      code: "ENDPOINT_UNUSABLE",
      direction,
      endpoint: endpointText(spec),
      why: messageOf(error),
      hint: unusable ? error.hint : "check the folder and the permissions",
      file: unusable ? error.file : undefined,
    });
  }
}
