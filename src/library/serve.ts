/** `serve` for programs. */
import { LIBRARY, type Vocabulary } from "../messages/vocabulary.ts";
import { serve as serveStream } from "../server/serve.ts";
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
    return { settings, body: (context) => serveStream({ ...settings, ...context, doubts }) };
  });
}
