/** `nbd-streaming serve` */
import { defineCommand } from "citty";
import type { Direction } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import { NBD_PORT } from "../server/address.ts";
import { serve } from "../server/serve.ts";
import { Signals } from "../server/signals.ts";
import type { ShortStream } from "../stream/messages.ts";
import type { CliContext } from "./context.ts";
import { COMMON_OPTIONS, parseAddress } from "./options.ts";
import { parseParameters } from "./parameters.ts";
import { streamOptions } from "./stream-options.ts";

export const serveCommand = defineCommand({
  meta: {
    name: "serve",
    description: "Listen for NBD clients until the stream is done",
  },
  args: {
    ...COMMON_OPTIONS,
    keep: {
      type: "boolean",
      description: "Go on listening after a client has finished; a signal ends the stream",
    },
  },
  run({ args, data }) {
    const { captive, workerUrl } = data as CliContext;
    if (captive !== undefined) {
      throw usageError("serve takes no command: use run for one");
    }
    const { parameters, rest } = parseParameters(args._);
    if (rest.length > 0) {
      throw usageError(`unknown argument ${rest[0]}: parameters look like pipe=FILE`);
    }
    return serve({
      ...streamOptions(parameters, args),
      needsSize: false,
      short: shortStream(parameters.direction, args.pad),
      address: parseAddress(args) ?? { kind: "tcp", host: "127.0.0.1", port: NBD_PORT },
      keep: args.keep === true,
      signals: new Signals(),
      workerUrl,
    });
  },
});

/**
 * What a stream is that the clients leave below its size. Of one that is read, zeroes can only be
 * put where the source has ended.
 */
function shortStream(direction: Direction, pad: boolean | undefined): ShortStream {
  if (pad === false) return "allow";
  return pad === true && direction === "write" ? "pad" : "fail";
}
