/** The `key=value` parameters that nbdkit's streaming plugin takes. */
import { usageError } from "../errors.ts";
import { chooseEndpoint, type EndpointChoice, releaseEndpoint } from "../library/endpoint.ts";
import type { StreamOptions } from "../library/options.ts";
import { parseSize, toWindow } from "../library/size.ts";

/** Each parameter with its place in `--help`. */
export const PARAMETERS = [
  [
    "pipe=PATH",
    "write to a named pipe (made if it does not exist), a listening Unix socket or a device",
  ],
  ["pipe=-", "write to standard output, which must not be a terminal"],
  ["pipe=fd:N", "write to a descriptor that the program was started with"],
  ["pipe=tcp:HOST:PORT", "connect and write"],
  ["pipe=exec:COMMAND", "write to the standard input of a shell command"],
  ["write=SINK", "the same as pipe=SINK"],
  [
    "read=SOURCE",
    "serve what comes out of a PATH (a file, too), - (standard input), fd:N, tcp: or exec:",
  ],
  [
    "size=SIZE",
    "length of the stream: bytes, or with a suffix b k M G T P E s (default: no end; read=: a file's)",
  ],
  [
    "window=SIZE",
    "hold what comes ahead of its turn; read=: keep the last of what has gone by (default: none)",
  ],
] as const;

export interface StreamParameters extends EndpointChoice {
  /** `pipe=`, `write=` or `read=` as it stands there. */
  readonly endpoint: Pick<StreamOptions, "pipe" | "read">;
  /** Bytes; undefined when not given. */
  readonly size: bigint | undefined;
  /** Bytes; 0 when not given. */
  readonly window: number;
}

const ENDPOINTS = ["pipe", "write", "read"] as const;
const KEYS = new Set<string>([...ENDPOINTS, "size", "window"]);

/**
 * Sorts the words of the command line.
 *
 * @returns the parameters, and the words that are none
 * @throws UserError ERR_USAGE for unknown, repeated, missing and bad ones
 */
export function parseParameters(words: readonly string[]): {
  parameters: StreamParameters;
  rest: string[];
} {
  const { values, rest } = sortWords(words);
  return { parameters: { ...parseEndpoint(values), ...parseSizes(values) }, rest };
}

/** What `check` takes: all of it may be left out. */
export interface CheckParameters extends Pick<StreamParameters, "size" | "window"> {
  readonly endpoint: EndpointChoice | undefined;
}

/** As {@link parseParameters}, for `check`. @throws UserError ERR_USAGE */
export function parseCheckParameters(words: readonly string[]): {
  parameters: CheckParameters;
  rest: string[];
} {
  const { values, rest } = sortWords(words);
  const named = ENDPOINTS.some((key) => values.has(key));
  const endpoint = named ? parseEndpoint(values) : undefined;
  return { parameters: { endpoint, ...parseSizes(values) }, rest };
}

/** For words that were refused before there was a stream: nobody is to wait for it. */
export function releaseEndpoints(words: readonly string[]): void {
  for (const word of words) {
    const [, key, value] = /^(pipe|write|read)=(.+)$/s.exec(word) ?? [];
    if (key !== undefined) releaseEndpoint(key === "read" ? { read: value } : { pipe: value });
  }
}

function sortWords(words: readonly string[]): { values: Map<string, string>; rest: string[] } {
  const values = new Map<string, string>();
  const rest: string[] = [];
  for (const word of words) {
    const [, key, value = ""] = /^([a-z][a-z0-9_-]*)=(.*)$/s.exec(word) ?? [];
    if (key === undefined) {
      if (KEYS.has(word) && !values.has(word)) {
        throw usageError(`${word}= needs a value: write ${word}=… without a space`);
      }
      rest.push(word);
      continue;
    }
    if (!KEYS.has(key)) {
      throw usageError(
        `unknown parameter ${key}=: there are pipe=, write=, read=, size= and window=`,
      );
    }
    if (value === "") throw usageError(`${key}= needs a value`);
    if (values.has(key)) throw usageError(`${key}= is given twice`);
    values.set(key, value);
  }
  return { values, rest };
}

function parseSizes(
  values: ReadonlyMap<string, string>,
): Pick<StreamParameters, "size" | "window"> {
  const size = values.get("size");
  return {
    size: size === undefined ? undefined : parseSize("size", size),
    window: toWindow(values.get("window") ?? 0),
  };
}

function parseEndpoint(
  values: ReadonlyMap<string, string>,
): Omit<StreamParameters, "size" | "window"> {
  const write = values.get("write");
  if (write !== undefined && values.has("pipe")) {
    throw usageError("pipe= and write= are the same parameter: give one of them");
  }
  if (write !== undefined && values.has("read")) {
    throw usageError("read= cannot be combined with write=: a stream has one direction");
  }
  const endpoint = { pipe: values.get("pipe") ?? write, read: values.get("read") };
  return { endpoint, ...chooseEndpoint(endpoint) };
}
