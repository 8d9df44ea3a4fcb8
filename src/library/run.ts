/** `run` for programs. */
import { captiveWords, type Variables } from "../captive/command.ts";
import { NewImage } from "../captive/new-image.ts";
import { exportCommand, imageSize, importCommand, outputFormat } from "../captive/qemu-img.ts";
import { run as runCaptive } from "../captive/run.ts";
import { isSameFile, targetText } from "../endpoint/prepare/target.ts";
import { UserError, usageError } from "../errors.ts";
import { signalStatus } from "../process/signals.ts";
import { chooseFarEnd, type FarEndChoice } from "./far-end.ts";
import { hostOptions, idleTimeoutOf } from "./host-options.ts";
import type { RunOptions } from "./options.ts";
import { Streaming } from "./streaming.ts";

/**
 * Runs a command with the stream as its disk, or copies an image into or out of it. It catches no
 * signals; the command gets those that are for the whole process group.
 */
export function run(options: RunOptions): Streaming {
  return new Streaming(options, async (frame) => {
    const host = hostOptions(options, frame);
    const { direction } = host;
    const client = clientOf(options, chooseFarEnd(options));
    const { stop } = frame.interruption;
    const size = host.size ?? (await client.size(stop).catch(unlessStopped(stop)));
    const { caught } = frame.interruption;
    if (caught !== undefined) {
      const message = `ended by ${caught} before the stream had begun`;
      throw new UserError("ERR_TRUNCATED", message, signalStatus(caught));
    }
    const outcome = await runCaptive({
      ...host,
      size,
      needsSize: client.needsSize ?? options.needsSize,
      // A command that has read a part of the stream and is content has had what it wanted.
      short: direction === "read" || options.pad === false ? "allow" : "pad",
      address: options.listen,
      idleTimeout: idleTimeoutOf(options, undefined),
      command: client.command,
    }).catch((error: unknown) => {
      client.settle(false);
      throw error;
    });
    client.settle(outcome.why === undefined);
    return outcome;
  });
}

/** What is run with the stream as its disk. */
interface CaptiveClient {
  readonly command: (variables: Variables) => readonly string[];
  /** The stream's length where it is the client that knows it; undefined when it does not. */
  readonly size: (stop: AbortSignal) => Promise<bigint | undefined>;
  /** Who has to know the length, because all of the disk is copied. */
  readonly needsSize: string | undefined;
  /** The stream has ended, or could not begin. @throws UserError */
  readonly settle: (complete: boolean) => void;
}

function clientOf(
  { command, image, format }: RunOptions,
  { direction, target }: FarEndChoice,
): CaptiveClient {
  const unknown = () => Promise.resolve(undefined);
  const settle = () => {};
  if (command !== undefined) {
    if (image !== undefined) throw usageError("image goes without command: it has one of its own");
    if (format !== undefined) throw usageError("format goes with image, not with command");
    if (command.length === 0) throw usageError("the command is empty");
    return {
      command: (variables) => captiveWords(command, variables),
      size: unknown,
      needsSize: undefined,
      settle,
    };
  }
  if (image === undefined) throw usageError("nothing to run: give a command or an image");
  if (direction === "write") {
    return {
      command: ({ uri }) => exportCommand(image, format, uri),
      size: (stop) => imageSize(image, format, stop),
      needsSize: undefined,
      settle,
    };
  }
  if (isSameFile(target, image)) {
    throw usageError(`read=${targetText(target)} and IMAGE are the same file: name another one`);
  }
  const made = outputFormat(image, format);
  let place: NewImage | undefined;
  return {
    command({ uri }) {
      place = new NewImage(image);
      return importCommand(uri, made, place.path);
    },
    size: unknown,
    needsSize: `making ${image}`,
    settle: (complete) => (complete ? place?.keep() : place?.discard()),
  };
}

/** A signal that comes while the image is looked at has ended qemu-img, too. */
function unlessStopped(stop: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (!stop.aborted) throw error;
  };
}
