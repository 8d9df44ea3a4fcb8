/** `nbd-streaming run` */
import { defineCommand } from "citty";
import { commandOf } from "../captive/command.ts";
import { usageError } from "../errors.ts";
import { resolveRun, type RunOptions } from "../library/options.ts";
import { startRun, startRunStreams } from "../library/run.ts";
import { resolveRunStreams } from "../library/several.ts";
import {
  type CliContext,
  COMMON_OPTIONS,
  type CommonArgs,
  parseAddress,
  plainArgs,
  type StreamWords,
} from "./options.ts";
import { type StreamParameters, parseParameters } from "./parameters.ts";
import { resolveStream, runStream } from "./run-stream.ts";
import { resolveStreams, runStreams } from "./run-streams.ts";
import { COMMAND_LINE } from "./vocabulary.ts";
import { quotesHint, requireNames, requireReference } from "./words.ts";

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
      description: "pipe=: format of IMAGE, as for qemu-img -f (default: detected)",
    },
    "output-format": {
      type: "string",
      alias: "O",
      valueHint: "FMT",
      description: "read=: format of IMAGE, as for qemu-img -O (default: by its extension)",
    },
  },
  async run({ args: parsed, data }) {
    const args = plainArgs(parsed);
    const context = data as CliContext;
    if (context.streams !== undefined) return await runSeveral(context.streams, args, context);
    const { parameters, rest } = parseParameters(args._);
    const client = parseClient(context.captive, rest, parameters, args);
    const listen = parseAddress(args);
    if (listen === undefined) requireReference(context.captive, args.hold);
    requireNames(context.captive, args.exportname === undefined ? [] : [args.exportname]);
    const { settings, output } = await resolveStream(parameters, args, context, (stream) =>
      resolveRun({ ...stream, ...client, listen }),
    );
    return await runStream(
      startRun(() => settings, COMMAND_LINE),
      settings.spec,
      output,
    );
  },
});

async function runSeveral(
  streams: readonly StreamWords[],
  args: CommonArgs & {
    _: string[];
    format?: string | undefined;
    "output-format"?: string | undefined;
  },
  context: CliContext,
): Promise<number> {
  const { captive } = context;
  if (captive === undefined) {
    throw usageError("several streams need a command after --: an IMAGE is for one stream");
  }
  const { command } = parseClient(captive, [], {}, args);
  const listen = parseAddress(args);
  if (listen === undefined) requireReference(captive);
  requireNames(
    captive,
    streams.map(({ name }) => name),
  );
  const { settings, output } = await resolveStreams(streams, args, context, (options) =>
    resolveRunStreams({ ...options, command, listen }),
  );
  const streaming = startRunStreams(() => settings, COMMAND_LINE, args["fail-fast"]);
  const specs = settings.map(({ spec }) => spec);
  return await runStreams(streaming, specs, output);
}

/** The command or the image. @throws UserError ERR_USAGE */
function parseClient(
  captive: readonly string[] | undefined,
  rest: readonly string[],
  { read }: StreamParameters,
  args: { _: string[]; format?: string | undefined; "output-format"?: string | undefined },
): Pick<RunOptions, "command" | "image" | "format"> {
  const { _: words, format: input, "output-format": output } = args;
  const [image, ...more] = rest;
  if (captive !== undefined) {
    if (image !== undefined) {
      throw usageError(`unknown argument ${image}: parameters look like pipe=FILE`);
    }
    if (input !== undefined) throw usageError("-f needs an IMAGE, not a command");
    if (output !== undefined) throw usageError("-O needs an IMAGE, not a command");
    if (captive.length === 0) throw usageError("the command after -- is missing");
    return { command: commandOf(captive) };
  }
  if (image === undefined) {
    throw usageError("nothing to run: give an IMAGE, or a command after --");
  }
  if (more.length > 0) {
    throw usageError(
      `only one IMAGE is taken: ${more[0]} is too many; a command comes after --` +
        quotesHint(words),
    );
  }
  if (read === undefined && output !== undefined) {
    throw usageError(
      "-O needs read=: what pipe= gets is raw; a command makes other formats, with --hold and " +
        "spool=DIR: -- qemu-img convert -O qcow2 IMAGE '$spool'",
    );
  }
  if (read !== undefined && input !== undefined) {
    throw usageError("-f needs pipe=: what read= gives is raw");
  }
  return { image, format: read === undefined ? input : output };
}
