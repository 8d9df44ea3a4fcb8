/** `nbd-streaming serve` */
import { defineCommand } from "citty";
import type { Direction } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import { activatedSocket, requireClient } from "../server/activation.ts";
import { type Address, type Entrance, NBD_PORT } from "../server/address.ts";
import { serve } from "../server/serve.ts";
import { endWithParent, Signals } from "../server/signals.ts";
import type { ShortStream } from "../stream/messages.ts";
import type { CliContext } from "./context.ts";
import { COMMON_OPTIONS, parseAddress, parseLimit } from "./options.ts";
import { parseParameters } from "./parameters.ts";
import { streamOptions } from "./stream-options.ts";

/** Seconds; as long as anybody needs to notice that a client has been stopped by mistake. */
const IDLE_TIMEOUT = 60;

export const serveCommand = defineCommand({
  meta: {
    name: "serve",
    description: "Listen for NBD clients until the stream is done",
  },
  args: {
    ...COMMON_OPTIONS,
    single: {
      type: "boolean",
      alias: "s",
      description: "Serve one client, on standard input and output (inetd, libnbd, ssh)",
    },
    "exit-with-parent": {
      type: "boolean",
      description: "End when the program that has started this one ends",
    },
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
      throw usageError(
        `unknown argument ${rest[0]}: parameters look like pipe=FILE, and an IMAGE is for run`,
      );
    }
    if (args.unix === "-") {
      throw usageError("-U - is a private socket, which only run has: name a path");
    }
    const signals = new Signals();
    if (args["exit-with-parent"] === true) endWithParent(signals);
    return serve({
      ...streamOptions(parameters, args),
      needsSize: false,
      short: shortStream(parameters.direction, args.pad),
      entrance: entrance(parseAddress(args), args.single === true),
      idleTimeout: parseLimit("--idle-timeout", args["idle-timeout"], IDLE_TIMEOUT),
      keep: args.keep === true,
      signals,
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

/** Where clients come from. @throws UserError ERR_USAGE, ERR_LISTEN */
function entrance(address: Address | undefined, single: boolean): Entrance {
  const fd = activatedSocket(process.env);
  if (single) {
    if (address !== undefined) throw usageError("--single goes without -U, -p and -i");
    requireClient();
    return { kind: "single" };
  }
  if (fd === undefined) return address ?? { kind: "tcp", host: "127.0.0.1", port: NBD_PORT };
  if (address !== undefined) {
    throw usageError("-U, -p and -i go without a socket that is passed by LISTEN_FDS");
  }
  return { kind: "activated", fd };
}
