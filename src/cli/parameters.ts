/** The `key=value` parameters that nbdkit's streaming plugin takes. */
import { usageError } from "../errors.ts";
import { parseSize } from "./size.ts";

/** Each parameter with its place in `--help`. */
export const PARAMETERS = [
  ["pipe=FILE", "named pipe to write to, made if it does not exist (also: write=FILE)"],
  ["size=SIZE", "length of the stream: bytes, or with a suffix b k M G T P E s (default: no end)"],
] as const;

export interface Parameters {
  /** The path that `pipe=` or `write=` names. */
  readonly pipe: string;
  /** Bytes; undefined when not given. */
  readonly size: bigint | undefined;
}

const KEYS = new Set(["pipe", "write", "size"]);

/**
 * Sorts the words of the command line.
 *
 * @returns the parameters, and the words that are none
 * @throws UserError ERR_USAGE for unknown, repeated, missing and bad ones
 */
export function parseParameters(words: readonly string[]): {
  parameters: Parameters;
  rest: string[];
} {
  const values = new Map<string, string>();
  const rest: string[] = [];
  for (const word of words) {
    const [, key, value = ""] = /^([a-z][a-z0-9_-]*)=(.*)$/s.exec(word) ?? [];
    if (key === undefined) {
      rest.push(word);
      continue;
    }
    if (!KEYS.has(key)) {
      throw usageError(`unknown parameter ${key}=: there are pipe=, write= and size=`);
    }
    if (value === "") throw usageError(`${key}= needs a value`);
    if (values.has(key)) throw usageError(`${key}= is given twice`);
    values.set(key, value);
  }
  const pipe = values.get("pipe");
  const write = values.get("write");
  if (pipe !== undefined && write !== undefined) {
    throw usageError("pipe= and write= are the same parameter: give one of them");
  }
  const path = pipe ?? write;
  if (path === undefined) {
    throw usageError("pipe=FILE is missing: name the pipe that the stream goes to");
  }
  const size = values.get("size");
  return {
    parameters: { pipe: path, size: size === undefined ? undefined : parseSize("size", size) },
    rest,
  };
}
