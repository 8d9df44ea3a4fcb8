/** How whoever is spoken to gives options. */
import type { Option, OptionValue } from "./notice.ts";

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
  /** What a captive command is given that it may find the server. */
  readonly reference: string;
  /** To give a command of one's own in the place of an image. */
  readonly wholeCommand: string;
  /** To stream into a file by standard output. */
  redirection(file: string): string;
  /** To have qemu-img(1) read an image. */
  readonly imageByQemuImg: string;
}

const NAMES: Readonly<Record<Option, string>> = {
  pipe: "pipe",
  read: "read",
  size: "size",
  window: "window",
  pad: "pad",
  exact: "exact",
  exportName: "exportName",
  pidFile: "pidFile",
  idleTimeout: "idleTimeout",
  maxConnections: "maxConnections",
  negotiationTimeout: "negotiationTimeout",
  reconnect: "reconnect",
  readerTimeout: "openTimeout",
  writerTimeout: "openTimeout",
  progressInterval: "progressInterval",
  socketPath: "listen.path",
  port: "listen.port",
  address: "listen.host",
  single: 'listen.kind "single"',
  certificates: "tls.certificates",
  image: "image",
  inputFormat: "format",
  outputFormat: "format",
};

/** The options of `serve` and `run` in a program. */
export const LIBRARY: Vocabulary = {
  name: (option) => NAMES[option],
  given: (option, value) => `${NAMES[option]}: ${literal(value)}`,
  size: (bytes) => `size ${bytes}`,
  exec: (option, command) => `${option}: ${literal(`exec:${command}`)}`,
  redirection: () => 'pipe: "-"',
  reference: "$nbd (or $uri)",
  wholeCommand: "give the whole command as command",
  imageByQemuImg: "run with image",
};

/** A value as it stands in a program. */
function literal(value: OptionValue): string {
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "bigint" ? `${value}n` : String(value);
}
