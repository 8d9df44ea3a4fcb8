/** What packages say of themselves. */
import packageJson from "../../package.json" with { type: "json" };

export const VERSION = packageJson.version;
/** The packaging's own number: one for each time that a version is packaged anew. */
export const REVISION = 1;
export const SUMMARY = "NBD server whose disk is a stream";
/** RFC 2606: nobody has an address that ends so. CONTRIBUTING says when it becomes a real one. */
export const MAINTAINER = "The nbd-streaming authors <maintainers@nbd-streaming.invalid>";

/** Lines of at most 79 characters. */
export const DESCRIPTION = [
  "A client that writes to this disk from its start to its end, such as qemu-img",
  "convert, feeds a command, a named pipe, a socket, a device or standard output:",
  "each byte once and in order, without a temporary file. The other way round, it",
  "reads what one of these delivers. The exit status is 0 only if the stream is",
  "complete and its reader has taken every byte, and a command never sees the end",
  "of a truncated stream.",
];

/** How distributions name the machines that Bun names so. */
export const MACHINES = {
  "linux-x64": { deb: "amd64", rpm: "x86_64" },
  "linux-arm64": { deb: "arm64", rpm: "aarch64" },
} as const;
export type Machine = keyof typeof MACHINES;
