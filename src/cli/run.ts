/** `nbd-streaming run` */
import { defineCommand } from "citty";
import { captiveWords, type Variables } from "../captive/command.ts";
import { exportCommand, imageSize, importCommand, outputFormat } from "../captive/qemu-img.ts";
import { run } from "../captive/run.ts";
import { isSameFile, targetText } from "../endpoint/prepare/target.ts";
import { usageError } from "../errors.ts";
import { Signals, signalStatus } from "../server/signals.ts";
import type { CliContext } from "./context.ts";
import { requireReference } from "./hints.ts";
import { COMMON_OPTIONS, parseAddress, parseLimit } from "./options.ts";
import { type Parameters, parseParameters } from "./parameters.ts";
import { streamOptions } from "./stream-options.ts";

export const runCommand = defineCommand({
  meta: {
    name: "run",
    description: "Run a command with the stream as its disk, or copy an image into or out of it",
  },
  args: {
    ...COMMON_OPTIONS,
    format: {
      type: "string",
      alias: "f",
      valueHint: "FMT",
      description: "pipe=: format of IMAGE, as for qemu-img (default: found out)",
    },
    "output-format": {
      type: "string",
      alias: "O",
      valueHint: "FMT",
      description: "read=: format of IMAGE, as for qemu-img (default: by its extension)",
    },
  },
  async run({ args, data }) {
    const { captive, workerUrl } = data as CliContext;
    const { parameters, rest } = parseParameters(args._);
    const { direction } = parameters;
    const options = streamOptions(parameters, args);
    const address = parseAddress(args);
    const formats = { input: args.format, output: args["output-format"] };
    const client = parseClient(captive, rest, parameters, formats);
    if (address === undefined) requireReference(captive);
    const signals = new Signals();
    const size = parameters.size ?? (await client.size(signals.stop));
    if (signals.caught !== undefined) return signalStatus(signals.caught);
    return run({
      ...options,
      size,
      needsSize: direction === "read" && captive === undefined,
      // A command that has read a part of the stream and is content has had what it wanted.
      short: direction === "read" || args.pad === false ? "allow" : "pad",
      address,
      idleTimeout: parseLimit("--idle-timeout", args["idle-timeout"], undefined),
      command: client.command,
      signals,
      workerUrl,
    });
  },
});

/** What is run with the stream as its disk. */
interface CaptiveClient {
  readonly command: (variables: Variables) => readonly string[];
  /** The stream's length where it is the client that knows it; undefined when it does not. */
  readonly size: (stop: AbortSignal) => Promise<bigint | undefined>;
}

interface Formats {
  readonly input: string | undefined;
  readonly output: string | undefined;
}

function parseClient(
  captive: readonly string[] | undefined,
  rest: readonly string[],
  { direction, target }: Parameters,
  { input, output }: Formats,
): CaptiveClient {
  const [image, ...more] = rest;
  if (captive !== undefined) {
    if (image !== undefined) {
      throw usageError(`unknown argument ${image}: parameters look like pipe=FILE`);
    }
    if (input !== undefined) throw usageError("-f goes with an IMAGE, not with a command");
    if (output !== undefined) throw usageError("-O goes with an IMAGE, not with a command");
    if (captive.length === 0) throw usageError("the command after -- is missing");
    return {
      command: (variables) => captiveWords(captive, variables),
      size: () => Promise.resolve(undefined),
    };
  }
  if (image === undefined) {
    throw usageError("nothing to run: give an IMAGE, or a command after --");
  }
  if (more.length > 0)
    throw usageError(`only one IMAGE is taken: ${more[0]} is too many; a command comes after --`);
  if (direction === "write") {
    if (output !== undefined) throw usageError("-O goes with read=: what pipe= gets is raw");
    if (isSameFile(target, image)) {
      throw usageError(
        `pipe=${targetText(target)} is IMAGE itself: name a pipe, or another file for pipe=-`,
      );
    }
    return {
      command: ({ uri }) => exportCommand(image, input, uri),
      size: (stop) => sizeOf(image, input, stop),
    };
  }
  if (input !== undefined) throw usageError("-f goes with pipe=: what read= gives is raw");
  if (isSameFile(target, image)) {
    throw usageError(`read=${targetText(target)} and IMAGE are the same file: name another one`);
  }
  const format = outputFormat(image, output);
  return {
    command: ({ uri }) => importCommand(uri, format, image),
    size: () => Promise.resolve(undefined),
  };
}

/** The size of the image to copy; a signal that comes meanwhile is left to the caller. */
async function sizeOf(
  image: string,
  format: string | undefined,
  stop: AbortSignal,
): Promise<bigint | undefined> {
  try {
    return await imageSize(image, format, stop);
  } catch (error) {
    if (stop.aborted) return undefined;
    throw error;
  }
}
