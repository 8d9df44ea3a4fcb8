/** `run` for programs. */
import { run as runCaptive } from "../captive/run.ts";
import { cleaningUp } from "../clean-up.ts";
import { textOf } from "../messages/text.ts";
import { LIBRARY, type Vocabulary } from "../messages/vocabulary.ts";
import type { EndSignal } from "../process/signals.ts";
import { endedBy } from "../server/exit-status.ts";
import type { StreamContext } from "../server/settings.ts";
import { endedBefore } from "../server/stop-signal.ts";
import { doubtOf } from "./contents.ts";
import { type ResolvedRun, resolveRun, type RunOptions } from "./options.ts";
import { resolveRunStreams, type RunStreamsOptions } from "./several.ts";
import { Streaming } from "./streaming.ts";
import { Streams } from "./streams.ts";
import type { StreamResult } from "../server/summary.ts";

/**
 * Runs a command with the stream as its disk, or with several, or copies an image into or out of one. It
 * catches no signals; the command gets those that are for the whole process group.
 */
export function run(options: RunStreamsOptions): Streams;
export function run(options: RunOptions): Streaming;
export function run(options: RunOptions | RunStreamsOptions): Streaming | Streams {
  if (!("streams" in options)) return startRun(() => resolveRun(options), LIBRARY);
  const { failFast } = options;
  return startRunStreams(() => resolveRunStreams(options), LIBRARY, failFast);
}

/**
 * Does the same as {@link run}, with options that are resolved when the stream begins.
 *
 * @param vocabulary names options in messages
 */
export function startRun(resolve: () => ResolvedRun, vocabulary: Vocabulary): Streaming {
  return new Streaming(vocabulary, () => {
    const settings = resolve();
    return { settings, body: (context) => runClient(settings, context) };
  });
}

/** The same for several streams. */
export function startRunStreams(
  resolve: () => readonly ResolvedRun[],
  vocabulary: Vocabulary,
  failFast = false,
): Streams {
  return new Streams(vocabulary, failFast, () => {
    const settings = resolve();
    const body = async (contexts: readonly StreamContext[]) => {
      const { address, client } = settings[0] as ResolvedRun;
      const { log } = contexts[0] as StreamContext;
      await client.prepare(log);
      const streams = settings.map((one, i) => optionsOf(one, contexts[i] as StreamContext));
      return (await runCaptive({ streams, address, command: client.words })).results;
    };
    return { settings, body };
  });
}

function optionsOf(settings: ResolvedRun, context: StreamContext) {
  const between = { ...settings, ...settings.client };
  return { ...settings, ...context, doubts: (start: Uint8Array) => doubtOf(start, between) };
}

async function runClient(settings: ResolvedRun, context: StreamContext): Promise<StreamResult> {
  const { client } = settings;
  const { stopSignal, log, vocabulary } = context;
  const { stop } = stopSignal;
  let complete = false;
  return await cleaningUp(
    async () => {
      await client.prepare(log);
      const size = settings.size ?? (await client.size?.(stop).catch(unlessStopped(stop)));
      if (stopSignal.caught !== undefined) throw endedBefore(stopSignal.caught);
      const stream = { ...optionsOf(settings, context), size };
      const { address } = settings;
      const { words: command, image } = client;
      const { results } = await runCaptive({ streams: [stream], address, command, image });
      const result = results[0] as StreamResult;
      complete = result.why === undefined;
      const product = client.product?.();
      if (complete && product !== undefined && !(await product.keep(stop))) {
        return endedAfter(result, stopSignal.caught ?? "SIGTERM", vocabulary);
      }
      if (!complete && product?.isReplacement) log.info(`${client.image} is as it was before`);
      return result;
    },
    // A complete image that could not get its name is kept.
    () => {
      const product = client.product?.();
      if (!complete) product?.discard();
      if (product?.left !== undefined) log.warn(product.left);
    },
  );
}

/** The stream is complete, but the image was not stored when the signal came. */
function endedAfter(result: StreamResult, signal: EndSignal, vocabulary: Vocabulary): StreamResult {
  const verdict = endedBy(signal, "STOPPED_BEFORE_STORED");
  const reason = verdict.why === undefined ? null : textOf(verdict.why, vocabulary);
  const summary = { ...result.summary, complete: false, reason };
  return { ...result, ...verdict, summary };
}

/** Ignores errors after a stop signal, which also ends the qemu-img that looks at the image. */
function unlessStopped(stop: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (!stop.aborted) throw error;
  };
}
