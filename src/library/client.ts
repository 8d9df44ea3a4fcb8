/** The client of `run`: a command, or qemu-img(1) with an image. */
import { statSync } from "node:fs";
import {
  type CaptiveCommand,
  captiveWords,
  requireExecutable,
  type Variables,
} from "../captive/command.ts";
import type { NewImage } from "../captive/new-image.ts";
import {
  exportCommand,
  imageSize,
  importCommand,
  outputFormat,
  requireQemuImg,
} from "../captive/qemu-img.ts";
import { isEndpointFile, endpointText } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import type { Log } from "../log.ts";
import { optionError } from "../messages/notice-error.ts";
import type { EndpointChoice } from "../server/settings.ts";

/** One of `command` and `image` is needed. */
export interface ClientOptions {
  /**
   * The client. A string is a command line for the shell. Words are executed without one, and
   * `$nbd`, `$uri`, `$unixsocket`, `$port`, `$exportname` and `$tls` in them stand for the server;
   * in both cases they are in its environment. With `hold` there is also `$spool`, the path of the disk as a file.
   */
  readonly command?: CaptiveCommand | undefined;
  /** The image that qemu-img(1) is to copy into the stream of `pipe`, or to make of that of `read`. */
  readonly image?: string | undefined;
  /** Of `image`, by qemu-img's names. Default: found out, or by its extension where it is made. */
  readonly format?: string | undefined;
}

/** The process that has the stream as its disk. */
export interface CaptiveClient {
  readonly words: (variables: Variables) => readonly string[];
  /** The user's command; undefined for an image. */
  readonly command?: CaptiveCommand;
  /** The image that qemu-img(1) copies; undefined for a command. */
  readonly image?: string;
  /** Checks that it can be run, before anything begins. @throws UserError */
  readonly prepare: (log: Log) => Promise<void>;
  /** Finds out the stream's length from the image. */
  readonly size?: (stop: AbortSignal) => Promise<bigint | undefined>;
  /** What needs the length, because all of the disk is copied. */
  readonly needsSize?: string;
  /** The new image, which gets its name only when the stream is complete. */
  readonly product?: () => NewImage | undefined;
}

/** @throws UserError ERR_USAGE */
export function clientOf(
  { command, image, format }: ClientOptions,
  { direction, spec }: EndpointChoice,
): CaptiveClient {
  if (command !== undefined) {
    if (image !== undefined) {
      throw usageError("image cannot be combined with command: it has one of its own");
    }
    if (format !== undefined) throw usageError("format needs image, and no command");
    if (command.length === 0) throw usageError("the command is empty");
    return {
      words: (variables) => captiveWords(command, variables),
      command,
      prepare: async () => requireExecutable(command),
    };
  }
  if (image === undefined) throw usageError("nothing to run: give a command or an image");
  if (image === "-") throw optionError({ code: "IMAGE_STANDARD" });
  if (image === "") throw usageError("the image has no name: give its path");
  if (isEndpointFile(spec, image)) {
    throw optionError({ code: "ENDPOINT_IS_IMAGE", direction, endpoint: endpointText(spec) });
  }
  if (direction === "write") {
    return {
      words: ({ uri }) => exportCommand(image, format, uri),
      image,
      prepare: async () => requireQemuImg(),
      size: (stop) => imageSize(image, format, stop),
    };
  }
  const made = outputFormat(image, format);
  let place: NewImage | undefined;
  return {
    words: ({ uri }) => importCommand(uri, made, place?.path ?? image),
    image,
    async prepare(log) {
      requireQemuImg();
      // Loaded only here, because loading takes time.
      const { NewImage } = await import("../captive/new-image.ts");
      place = NewImage.at(image);
      // A device is overwritten in place; a file is replaced.
      if (place === undefined && isBlockDevice(image)) {
        log.info(`${image} is a block device: it is overwritten, also by a stream that fails`);
      }
    },
    needsSize: `making ${image}`,
    product: () => place,
  };
}

function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() === true;
}
