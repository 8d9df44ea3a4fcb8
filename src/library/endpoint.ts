/** Which way a stream goes, and what is at its endpoint. */
import { releaseFifo } from "../endpoint/opening/fifo.ts";
import {
  type Direction,
  type EndpointSpec,
  parseEndpoint,
  UnusableError,
} from "../endpoint/spec.ts";
import { UserError } from "../errors.ts";
import { optionError } from "../messages/notice-error.ts";
import type { StreamOptions } from "./options.ts";

export interface EndpointChoice {
  readonly direction: Direction;
  readonly spec: EndpointSpec;
}

/**
 * For a stream that has come to nothing: nobody is to wait at its FIFO any more. Does nothing with far
 * ends of another kind.
 */
export function releaseEndpoint(options: Pick<StreamOptions, "pipe" | "read">): void {
  let choice: EndpointChoice;
  try {
    choice = chooseEndpoint(options);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return;
  }
  if (choice.spec.kind === "path") releaseFifo(choice.spec.path, choice.direction);
}

/** What `pipe` or `read` names. @throws UserError ERR_USAGE */
export function chooseEndpoint({
  pipe,
  read,
}: Pick<StreamOptions, "pipe" | "read">): EndpointChoice {
  if (pipe !== undefined && read !== undefined) {
    throw optionError({ code: "ENDPOINT_TWICE" });
  }
  const value = pipe ?? read;
  if (value === undefined) throw optionError({ code: "ENDPOINT_MISSING" });
  const direction = read === undefined ? "write" : "read";
  const text = typeof value === "number" ? `fd:${value}` : value;
  try {
    return { direction, spec: parseEndpoint(text, direction) };
  } catch (error) {
    if (!(error instanceof UnusableError)) throw error;
    const { message: why, hint } = error;
    throw optionError({ code: "ENDPOINT_MALFORMED", direction, endpoint: text, why, hint });
  }
}
