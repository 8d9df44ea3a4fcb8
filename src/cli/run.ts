/** `nbd-streaming run` */
import { defineCommand } from "citty";
import { captiveWords } from "../captive/command.ts";
import { convertCommand, imageSize } from "../captive/qemu-img.ts";
import { run } from "../captive/run.ts";
import { usageError } from "../errors.ts";
import { Signals, signalStatus } from "../server/signals.ts";
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
    const signals = new Signals();
    const words = clientWords(captive, rest, args.format);
    const size = parameters.size ?? (await sizeOf(words, args.format, signals.stop));
    if (signals.caught !== undefined) return signalStatus(signals.caught);
    return run({
      target: parameters.target,
      size,
      short: args.pad === false ? "allow" : "pad",
      address: parseAddress(args),
      exportName: parseExportName(args.exportname),
      pidFile: args.pidfile,
      window: parameters.window,
      reconnect: parseSeconds("--reconnect", args.reconnect),
      readerTimeout: parseSeconds("--reader-timeout", args["reader-timeout"]),
      ...parseChecksum(args.checksum),
      summary: parseSummary(args.summary),
      command: (variables) =>
        words.image === undefined
          ? captiveWords(words.command, variables)
          : convertCommand(words.image, args.format, variables.uri),
      signals,
      log: createLog(args.verbose === true),
      workerUrl,
    });
  },
});

/** The client: a command, or an image to copy. */
type ClientWords =
  { readonly command: readonly string[]; readonly image?: undefined } | { readonly image: string };

function clientWords(
  captive: readonly string[] | undefined,
  rest: readonly string[],
  format: string | undefined,
): ClientWords {
  const [image, ...more] = rest;
  if (captive !== undefined) {
    if (image !== undefined) {
      throw usageError(`unknown argument ${image}: parameters look like pipe=FILE`);
    }
    if (format !== undefined) throw usageError("-f goes with an IMAGE, not with a command");
    if (captive.length === 0) throw usageError("the command after -- is missing");
    return { command: captive };
  }
  if (image === undefined) {
    throw usageError("nothing to run: give an IMAGE, or a command after --");
  }
  if (more.length > 0) throw usageError(`only one IMAGE is taken: ${more[0]} is too many`);
  return { image };
}

/** The size of the image to copy; a signal that comes meanwhile is left to the caller. */
async function sizeOf(
  { image }: ClientWords,
  format: string | undefined,
  stop: AbortSignal,
): Promise<bigint | undefined> {
  if (image === undefined) return undefined;
  try {
    return await imageSize(image, format, stop);
  } catch (error) {
    if (stop.aborted) return undefined;
    throw error;
  }
}
