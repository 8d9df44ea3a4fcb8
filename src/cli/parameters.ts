/** The `key=value` parameters that nbdkit's streaming plugin takes. */
import { usageError } from "../errors.ts";
import { releaseNamed, type StreamOptions } from "../library/options.ts";

/** Each form of each parameter, as `--help` lists it. */
export const PARAMETERS = [
  [
    "pipe=PATH",
    "write to a named pipe (made if it does not exist), a listening Unix socket or a device",
  ],
  ["pipe=-", "write to standard output, which must not be a terminal"],
  ["pipe=fd:N", "write to a descriptor that was inherited"],
  ["pipe=tcp:HOST:PORT", "connect to this address and write"],
  ["pipe=exec:COMMAND", "write to the standard input of a shell command"],
  ["write=SINK", "the same as pipe=SINK"],
  [
    "read=PATH",
    "read from a named pipe (made if it does not exist), a listening Unix socket, a file or a device",
  ],
  ["read=-", "read from standard input, which must not be a terminal"],
  ["read=fd:N", "read from a descriptor that was inherited"],
  ["read=tcp:HOST:PORT", "connect to this address and read"],
  ["read=exec:COMMAND", "read from the standard output of a shell command"],
  [
    "size=SIZE",
    "length of the stream: bytes, or with a suffix b k M G T P E s (default: endless, or with read= the length of a file)",
  ],
  [
    "window=SIZE",
    "memory for data that comes ahead of its turn; with read=, for data that is read again (default: none, 64M with spool=)",
  ],
  [
    "spool=DIR",
    "pipe=: folder on disk for what comes ahead of its turn and has no room in window=",
  ],
] as const satisfies readonly (readonly [`${"write" | keyof StreamOptions}=${string}`, string])[];

type KeyOf<Form> = Form extends `${infer Key}=${string}` ? Key : never;
type Key = KeyOf<(typeof PARAMETERS)[number][0]>;

/** The values of the parameters, under the names of the library's options. */
export type StreamParameters = { readonly [Name in Exclude<Key, "write">]?: string | undefined };

/** The names of the parameters, without the equals sign. */
export const KEYS: ReadonlySet<string> = new Set(
  PARAMETERS.map(([form]) => form.replace(/=.*/, "")),
);

/**
 * Sorts the words of the command line.
 *
 * @returns the parameters, and the words that are none
 * @throws UserError ERR_USAGE for unknown, repeated and empty ones
 */
export function parseParameters(words: readonly string[]): {
  parameters: StreamParameters;
  rest: string[];
} {
  const { values, rest } = sortWords(words);
  const { write, ...parameters }: { [Name in Key]?: string } = Object.fromEntries(values);
  if (write === undefined) return { parameters, rest };
  if (parameters.pipe !== undefined) {
    throw usageError("pipe= and write= are the same parameter: give one of them");
  }
  if (parameters.read !== undefined) {
    throw usageError("read= cannot be combined with write=: a stream has one direction");
  }
  return { parameters: { ...parameters, pipe: write }, rest };
}

/** Releases processes that wait at the FIFO of a command line that was refused. */
export function releaseEndpoints(words: readonly string[]): void {
  for (const word of words) {
    const [, key, value] = /^(pipe|write|read)=(.+)$/s.exec(word) ?? [];
    if (key !== undefined) releaseNamed(key === "read" ? { read: value } : { pipe: value });
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
      const known = [...KEYS].map((one) => `${one}=`);
      const last = known.pop();
      throw usageError(`unknown parameter ${key}=: there are ${known.join(", ")} and ${last}`);
    }
    if (value === "") throw usageError(`${key}= needs a value`);
    if (values.has(key)) throw usageError(`${key}= is given twice`);
    values.set(key, value);
  }
  return { values, rest };
}
