/** `serve` for programs. */
import { LIBRARY, type Vocabulary } from "../messages/vocabulary.ts";
import type { StreamResult } from "../server/host.ts";
import { serve as serveStreams } from "../server/serve.ts";
import type { StreamContext } from "../server/settings.ts";
import { doubtOf } from "./contents.ts";
import { type ResolvedServe, resolveServe, type ServeOptions } from "./options.ts";
import { Streaming } from "./streaming.ts";

/** Listens for NBD clients until the stream is done. It catches no signals. */
export function serve(options: ServeOptions): Streaming {
  return startServe(() => resolveServe(options), LIBRARY);
}

/**
 * Does the same as {@link serve}, with options that are resolved when the stream begins.
 *
 * @param vocabulary names options in messages
 */
export function startServe(resolve: () => ResolvedServe, vocabulary: Vocabulary): Streaming {
  return new Streaming(vocabulary, () => {
    const settings = resolve();
    const doubts = (start: Uint8Array) => doubtOf(start, settings);
    const body = async (context: StreamContext) => {
      const [result] = await serveStreams([{ ...settings, ...context, doubts }]);
      return result as StreamResult;
    };
    return { settings, body };
  });
}
