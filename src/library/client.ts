/** The client of `run`: a command, or qemu-img(1) with an image. */
import { captiveWords, type Variables } from "../captive/command.ts";
import { NewImage } from "../captive/new-image.ts";
import { exportCommand, imageSize, importCommand, outputFormat } from "../captive/qemu-img.ts";
import { isTarget, targetText } from "../endpoint/prepare/target.ts";
import { usageError } from "../errors.ts";
import type { FarEndChoice } from "./far-end.ts";
import type { RunOptions } from "./options.ts";

/** What is run with the stream as its disk. */
export interface CaptiveClient {
  readonly command: (variables: Variables) => readonly string[];
  /** What qemu-img(1) copies; undefined for a command of the user's. */
  readonly image?: string;
  /** The stream's length where it is the client that knows it; undefined when it does not. */
  readonly size: (stop: AbortSignal) => Promise<bigint | undefined>;
  /** Who has to know the length, because all of the disk is copied. */
  readonly needsSize: string | undefined;
  /** The stream has ended, or could not begin. @throws UserError */
  readonly settle: (complete: boolean) => void;
}

/** @throws UserError ERR_USAGE */
export function clientOf(
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
  if (image === "-") {
    throw usageError("IMAGE cannot be -: qemu-img needs a file, in which it can seek; ./- is one");
  }
  if (image === "") throw usageError("the image has no name: give its path");
  const same = isTarget(target, image);
  if (direction === "write") {
    if (same) {
      throw usageError(
        `pipe=${targetText(target)} is IMAGE itself: name a pipe, or another file for pipe=-`,
      );
    }
    return {
      command: ({ uri }) => exportCommand(image, format, uri),
      image,
      size: (stop) => imageSize(image, format, stop),
      needsSize: undefined,
      settle,
    };
  }
  if (same) {
    throw usageError(`read=${targetText(target)} and IMAGE are the same file: name another one`);
  }
  const made = outputFormat(image, format);
  let place: NewImage | undefined;
  return {
    command({ uri }) {
      place = new NewImage(image);
      return importCommand(uri, made, place.path);
    },
    image,
    size: unknown,
    needsSize: `making ${image}`,
    settle: (complete) => (complete ? place?.keep() : place?.discard()),
  };
}
