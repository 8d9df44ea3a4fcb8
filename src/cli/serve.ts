/** `nbd-streaming serve` */
import { defineCommand } from "citty";
import { usageError } from "../errors.ts";
import { NBD_PORT } from "../server/address.ts";
import { serve } from "../server/serve.ts";
import { Signals } from "../server/signals.ts";
import type { CliContext } from "./context.ts";
import { createLog } from "./log.ts";
import {
  COMMON_OPTIONS,
  parseAddress,
  parseChecksum,
  parseExportName,
  parseSeconds,
  parseSummary,
} from "./options.ts";
import { parseParameters } from "./parameters.ts";

export const serveCommand = defineCommand({
  meta: {
    name: "serve",
    description: "Listen for an NBD client and write the stream until it is done",
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
      target: parameters.target,
      size: parameters.size,
      short: args.pad === undefined ? "fail" : args.pad ? "pad" : "allow",
      address: parseAddress(args) ?? { kind: "tcp", host: "127.0.0.1", port: NBD_PORT },
      exportName: parseExportName(args.exportname),
      pidFile: args.pidfile,
      window: parameters.window,
      reconnect: parseSeconds("--reconnect", args.reconnect),
      readerTimeout: parseSeconds("--reader-timeout", args["reader-timeout"]),
      ...parseChecksum(args.checksum),
      summary: parseSummary(args.summary),
      keep: args.keep === true,
      signals: new Signals(),
      log: createLog(args.verbose === true),
      workerUrl,
    });
  },
});
