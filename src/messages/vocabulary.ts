/** How the reader of a message gives options: on a command line, or in a program. */

/** The library's options by name. `library/options.ts`, which this room cannot import, adds them. */
export interface LibraryOptions {}

/** Options of their own on the command line, which are parts or uses of an option in a program. */
const PARTS = {
  readerTimeout: "openTimeout",
  writerTimeout: "openTimeout",
  socketPath: "listen.path",
  port: "listen.port",
  address: "listen.host",
  single: 'listen.kind "single"',
  certificates: "tls.certificates",
  inputFormat: "format",
  outputFormat: "format",
} as const;

export type PartOption = keyof typeof PARTS;

/** An option as messages name it. */
export type Option = PartOption | Exclude<keyof LibraryOptions, (typeof PARTS)[PartOption]>;

export type OptionValue = string | number | bigint | boolean;

export interface Vocabulary {
  /**
   * An option by its name: `size=` and `--idle-timeout`, or `size` and `idleTimeout`.
   *
   * @param placeholder stands for its value, on a command line
   */
  name(option: Option, placeholder?: string): string;
  /** An option with its value, as it is to be given: `--no-pad`, or `pad: false`. */
  given(option: Option, value: OptionValue): string;
  /** A length that was given: `size=10`, or `size 10`. */
  size(bytes: number | bigint): string;
  /** An endpoint that is a command: `read=exec:'zstd -dc x'`, or `read: "exec:zstd -dc x"`. */
  exec(option: "pipe" | "read", command: string): string;
  /** How a captive command is told where the server is, or one of several streams. */
  reference(exportName?: string): string;
  /** How to give a command instead of an image. */
  readonly wholeCommand: string;
  /** How to stream into a file by standard output. */
  redirection(file: string): string;
  /** How to have qemu-img(1) read an image. */
  readonly imageByQemuImg: string;
}

/** The options of `serve` and `run` in a program. */
export const LIBRARY: Vocabulary = {
  name: nameOf,
  given: (option, value) => `${nameOf(option)}: ${literal(value)}`,
  size: (bytes) => `size ${bytes}`,
  exec: (option, command) => `${option}: ${literal(`exec:${command}`)}`,
  redirection: () => 'pipe: "-"',
  reference: (exportName) => variableOf(exportName),
  wholeCommand: "give the whole command as command",
  imageByQemuImg: "run with image",
};

function nameOf(option: Option): string {
  return option in PARTS ? PARTS[option as PartOption] : option;
}

function literal(value: OptionValue): string {
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "bigint" ? `${value}n` : String(value);
}

/** True for an export name that can be a part of a variable's name in a shell. */
export function isVariablePart(exportName: string): boolean {
  return /^[A-Za-z0-9_]+$/.test(exportName);
}

/** The variables of a captive command that name the server, or one of several streams. */
export function variableOf(exportName: string | undefined): string {
  if (exportName === undefined) return "$nbd (or $uri)";
  return isVariablePart(exportName)
    ? `$nbd_${exportName} (or $uri_${exportName})`
    : `the URI of the server with /${encodeURIComponent(exportName)} as its path`;
}
