/** `nbd-streaming serve` */
import { defineCommand } from "citty";
import { usageError } from "../errors.ts";
import { resolveServe } from "../library/options.ts";
import { startServe, startServeStreams } from "../library/serve.ts";
import { resolveServeStreams } from "../library/several.ts";
import { Streaming } from "../library/streaming.ts";
import type { Streams } from "../library/streams.ts";
import { endWithParent } from "../process/signals.ts";
import { activatedSocket, notify } from "../systemd.ts";
import type { Address, Entrance } from "../net/address.ts";
import type { CliLog } from "./log.ts";
import {
  type CliContext,
  COMMON_OPTIONS,
  type CommonArgs,
  parseAddress,
  plainArgs,
  type StreamWords,
} from "./options.ts";
import { parseParameters } from "./parameters.ts";
import { resolveStream, runStream } from "./run-stream.ts";
import { resolveStreams, runStreams } from "./run-streams.ts";
import { COMMAND_LINE } from "./vocabulary.ts";

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
      description: "End when the parent process ends",
    },
    keep: {
      type: "boolean",
      description: "Keep listening after a client has finished; a signal ends the stream",
    },
  },
  async run({ args: parsed, data }) {
    const args = plainArgs(parsed);
    const context = data as CliContext;
    if (context.captive !== undefined) {
      throw usageError("serve takes no command: use run for one");
    }
    if (args.unix === "-") {
      throw usageError("-U - is a private socket, which only run has: name a path");
    }
    const listen = entrance(parseAddress(args), args.single === true);
    return context.streams === undefined
      ? await serveOne(args, listen, context)
      : await serveSeveral(context.streams, args, listen, context);
  },
});

type ServeArgs = CommonArgs & {
  _: string[];
  single?: boolean | undefined;
  keep?: boolean | undefined;
  "exit-with-parent"?: boolean | undefined;
};

async function serveOne(
  args: ServeArgs,
  listen: Entrance | undefined,
  context: CliContext,
): Promise<number> {
  const { parameters, rest } = parseParameters(args._);
  if (rest.length > 0) {
    throw usageError(
      `unknown argument ${rest[0]}: parameters look like pipe=FILE, and an IMAGE is for run`,
    );
  }
  const { settings, output } = await resolveStream(parameters, args, context, (stream) =>
    resolveServe({ ...stream, listen, keep: args.keep }),
  );
  const streaming = startServe(() => settings, COMMAND_LINE);
  announce(streaming, args, listen, output.log);
  return await runStream(streaming, settings.spec, output);
}

async function serveSeveral(
  streams: readonly StreamWords[],
  args: ServeArgs,
  listen: Entrance | undefined,
  context: CliContext,
): Promise<number> {
  const { settings, output } = await resolveStreams(streams, args, context, (options) =>
    resolveServeStreams({ ...options, listen, keep: args.keep }),
  );
  const streaming = startServeStreams(() => settings, COMMAND_LINE, args["fail-fast"]);
  announce(streaming, args, listen, output.log);
  const specs = settings.map(({ spec }) => spec);
  return await runStreams(streaming, specs, output);
}

/** Says when clients can connect, and tells systemd(1) of the start and the end. */
function announce(
  streaming: Streaming | Streams,
  args: ServeArgs,
  listen: Entrance | undefined,
  log: CliLog,
): void {
  if (args["exit-with-parent"] === true) endWithParent((signal) => streaming.stop(signal));
  let ready = false;
  const listening = ({ uri }: { readonly uri: string | undefined }) => {
    ready = true;
    if (listen?.kind !== "single") {
      log.info(`listening on ${uri ?? "the socket that was passed"}`);
    }
    notify("READY=1", log);
  };
  if (streaming instanceof Streaming) streaming.once("listening", listening);
  else streaming.once("listening", listening);
  const stopping = () => {
    if (ready) notify("STOPPING=1", log);
  };
  // Before the report is made, because that is the last line.
  void streaming.then(stopping, stopping);
}

/** Where clients come from. @throws UserError ERR_USAGE, ERR_LISTEN */
function entrance(address: Address | undefined, single: boolean): Entrance | undefined {
  const fd = activatedSocket(process.env);
  if (single) {
    if (address !== undefined) throw usageError("--single cannot be combined with -U, -p and -i");
    return { kind: "single" };
  }
  if (fd === undefined) return address;
  if (address !== undefined) {
    throw usageError("-U, -p and -i cannot be combined with a socket that is passed by LISTEN_FDS");
  }
  return { kind: "activated", fd };
}
