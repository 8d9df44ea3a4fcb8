/** `serve` for programs. */
import type { Direction } from "../endpoint/spec.ts";
import { LIBRARY, type Vocabulary } from "../messages/vocabulary.ts";
import { NBD_PORT } from "../net/address.ts";
import { serve as serveStream } from "../server/serve.ts";
import type { ShortStream } from "../stream/messages.ts";
import { doubtOf } from "./contents.ts";
import { hostOptions, idleTimeoutOf } from "./host-options.ts";
import type { ServeOptions } from "./options.ts";
import { Streaming } from "./streaming.ts";

/** Seconds; as long as anybody needs to notice that a client has been stopped by mistake. */
const IDLE_TIMEOUT = 60;

/** Listens for NBD clients until the stream is done. It catches no signals. */
export function serve(options: ServeOptions): Streaming {
  return serveWith(options, LIBRARY);
}

/** The same for whoever gives options by other names. */
export function serveWith(options: ServeOptions, vocabulary: Vocabulary): Streaming {
  return new Streaming(options, vocabulary, async (frame) => {
    const host = hostOptions(options, frame);
    return await serveStream({
      ...host,
      doubts: (start) => doubtOf(start, host),
      needsSize: options.needsSize,
      short: shortStream(host.direction, options.pad),
      entrance: options.listen ?? { kind: "tcp", host: "127.0.0.1", port: NBD_PORT },
      idleTimeout: idleTimeoutOf(options, IDLE_TIMEOUT),
      keep: options.keep === true,
    });
  });
}

/**
 * What a stream is that the clients leave below its size. Of one that is read, zeroes can only be
 * put where the source has ended.
 */
function shortStream(direction: Direction, pad: boolean | undefined): ShortStream {
  if (pad === false) return "allow";
  return pad === true && direction === "write" ? "pad" : "fail";
}
