/** Which way a stream goes, and what is at its far end. */
import { parseTarget, type Target } from "../endpoint/prepare/target.ts";
import { UnusableError } from "../endpoint/prepare/unusable.ts";
import type { Direction } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import type { StreamOptions } from "./options.ts";

export interface FarEndChoice {
  readonly direction: Direction;
  readonly target: Target;
}

/** What `pipe` or `read` names. @throws UserError ERR_USAGE */
export function chooseFarEnd({ pipe, read }: Pick<StreamOptions, "pipe" | "read">): FarEndChoice {
  if (pipe !== undefined && read !== undefined) {
    throw usageError("read= goes without pipe= and write=: a stream has one direction");
  }
  const value = pipe ?? read;
  if (value === undefined) {
    throw usageError(
      "pipe=SINK is missing: name the pipe that the stream goes to, such as pipe=disk.fifo " +
        "(pipe=- is standard output), or a read=SOURCE",
    );
  }
  const direction = read === undefined ? "write" : "read";
  const text = typeof value === "number" ? `fd:${value}` : value;
  try {
    return { direction, target: parseTarget(text, direction) };
  } catch (error) {
    if (!(error instanceof UnusableError)) throw error;
    const key = direction === "write" ? "pipe" : "read";
    throw usageError(`${key}=${text}: ${error.message}; ${error.hint}`);
  }
}
