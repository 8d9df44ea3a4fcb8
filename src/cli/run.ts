/** `nbd-streaming run` */
import { defineCommand } from "citty";
import { convertCommand, imageSize } from "../captive/qemu-img.ts";
import { run } from "../captive/run.ts";
import { usageError } from "../errors.ts";
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

export const runCommand = defineCommand({
  meta: {
    name: "run",
    description: "Run a command with the stream as its disk, or copy an image into the stream",
  },
  args: {
    ...COMMON_OPTIONS,
    format: {
      type: "string",
      alias: "f",
      valueHint: "FMT",
      description: "Format of IMAGE, as for qemu-img (default: found out)",
    },
  },
  async run({ args, data }) {
    const { captive, workerUrl } = data as CliContext;
    const { parameters, rest } = parseParameters(args._);
    const { command, size } = await client(captive, rest, args.format, parameters.size);
    return run({
      target: parameters.target,
      size,
      pad: args.pad !== false,
      address: parseAddress(args),
      exportName: parseExportName(args.exportname),
      pidFile: args.pidfile,
      window: parameters.window,
      reconnect: parseSeconds("--reconnect", args.reconnect),
      readerTimeout: parseSeconds("--reader-timeout", args["reader-timeout"]),
      ...parseChecksum(args.checksum),
      summary: parseSummary(args.summary),
      command,
      signals: new Signals(),
      log: createLog(args.verbose === true),
      workerUrl,
    });
  },
});

/** The command to run and the stream's size: given, or those of the image to copy. */
async function client(
  captive: readonly string[] | undefined,
  rest: readonly string[],
  format: string | undefined,
  size: bigint | undefined,
): Promise<{ command: readonly string[]; size: bigint | undefined }> {
  const [image, ...more] = rest;
  if (captive !== undefined) {
    if (image !== undefined) {
      throw usageError(`unknown argument ${image}: parameters look like pipe=FILE`);
    }
    if (format !== undefined) throw usageError("-f goes with an IMAGE, not with a command");
    if (captive.length === 0) throw usageError("the command after -- is missing");
    return { command: captive, size };
  }
  if (image === undefined) {
    throw usageError("nothing to run: give an IMAGE, or a command after --");
  }
  if (more.length > 0) throw usageError(`only one IMAGE is taken: ${more[0]} is too many`);
  return {
    command: convertCommand(image, format),
    size: size ?? (await imageSize(image, format)),
  };
}
