/** `serve` for programs. */
import { LIBRARY, type Vocabulary } from "../messages/vocabulary.ts";
import { serve as serveStreams } from "../server/serve.ts";
import type { StreamContext } from "../server/settings.ts";
import { doubtOf } from "./contents.ts";
import { type ResolvedServe, resolveServe, type ServeOptions } from "./options.ts";
import { resolveServeStreams, type ServeStreamsOptions } from "./several.ts";
import { Streaming } from "./streaming.ts";
import { Streams } from "./streams.ts";
import type { StreamResult } from "../server/summary.ts";

/** Listens for NBD clients until the stream is done, or the streams are. It catches no signals. */
export function serve(options: ServeStreamsOptions): Streams;
export function serve(options: ServeOptions): Streaming;
export function serve(options: ServeOptions | ServeStreamsOptions): Streaming | Streams {
  if (!("streams" in options)) return startServe(() => resolveServe(options), LIBRARY);
  const { failFast } = options;
  return startServeStreams(() => resolveServeStreams(options), LIBRARY, failFast);
}

/**
 * Does the same as {@link serve}, with options that are resolved when the stream begins.
 *
 * @param vocabulary names options in messages
 */
export function startServe(resolve: () => ResolvedServe, vocabulary: Vocabulary): Streaming {
  return new Streaming(vocabulary, () => {
    const settings = resolve();
    const body = async (context: StreamContext) => {
      const [result] = await serveStreams([optionsOf(settings, context)]);
      return result as StreamResult;
    };
    return { settings, body };
  });
}

/** The same for several streams. */
export function startServeStreams(
  resolve: () => readonly ResolvedServe[],
  vocabulary: Vocabulary,
  failFast = false,
): Streams {
  return new Streams(vocabulary, failFast, () => {
    const settings = resolve();
    const body = (contexts: readonly StreamContext[]) =>
      serveStreams(settings.map((one, i) => optionsOf(one, contexts[i] as StreamContext)));
    return { settings, body };
  });
}

function optionsOf(settings: ResolvedServe, context: StreamContext) {
  return { ...settings, ...context, doubts: (start: Uint8Array) => doubtOf(start, settings) };
}
