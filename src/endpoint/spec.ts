/** The values of `pipe=` and `read=`, parsed, and the open endpoint as plain data for the stream thread. */
import { isIPv6 } from "../../ffi/socket.ts";
import { resolve } from "node:path";
import { isSameFile } from "../process/same-file.ts";

/** Which way a stream goes: from clients to a sink, or from a source to clients. */
export type Direction = "write" | "read";

/** The value of `pipe=` or `read=`, parsed. */
export type EndpointSpec =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "descriptor"; readonly name: string; readonly fd: number }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "exec"; readonly command: string };

/** The meaning of `-`. */
const STANDARD = {
  write: { kind: "descriptor", name: "standard output", fd: 1 },
  read: { kind: "descriptor", name: "standard input", fd: 0 },
} as const;

/**
 * Parses the value of `pipe=` or `read=`. A path that looks like one of the other forms is written with
 * `./`.
 *
 * @throws UnusableError for a value that starts like another form but is not one
 */
export function parseEndpoint(text: string, direction: Direction): EndpointSpec {
  if (text === "-") return STANDARD[direction];
  const [, scheme, rest = ""] = /^(fd|tcp|exec):(.*)$/s.exec(text) ?? [];
  if (scheme === "fd") {
    if (!/^[0-9]{1,9}$/.test(rest)) {
      throw new UnusableError("fd: takes a number", "name a descriptor, such as fd:3");
    }
    return { kind: "descriptor", name: text, fd: Number(rest) };
  }
  if (scheme === "tcp") return parseTcp(rest);
  if (scheme === "exec") {
    if (rest.trim() === "") {
      throw new UnusableError("exec: takes a command", "write it behind, such as exec:'zstd -c'");
    }
    return { kind: "exec", command: rest };
  }
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw new UnusableError(
      "an address of the web or of a store is no path",
      direction === "write"
        ? `name a command that writes there, such as exec:'aws s3 cp - ${text}'`
        : `name a command that reads it, such as exec:'curl -fsS ${text}'`,
    );
  }
  return { kind: "path", path: text };
}

function parseTcp(text: string): EndpointSpec {
  const [, v6, name, digits] = /^(?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const host = v6 ?? name;
  const port = Number(digits);
  if (host === undefined || !(port >= 1 && port <= 65535)) {
    throw new UnusableError(
      "tcp: takes a host and a port",
      "write tcp:HOST:PORT or tcp:[IPV6]:PORT",
    );
  }
  return { kind: "tcp", host, port };
}

/** The specification as the user wrote it. */
export function endpointText(spec: EndpointSpec): string {
  switch (spec.kind) {
    case "path":
      return spec.path;
    case "descriptor":
      return Object.values(STANDARD).some(({ name }) => name === spec.name) ? "-" : spec.name;
    case "tcp":
      return tcpName(spec.host, spec.port);
    case "exec":
      return `exec:${spec.command}`;
  }
}

/** True when a source of this kind may know its length once it is open. */
export function mayKnowLength({ kind }: EndpointSpec): boolean {
  return kind === "path" || kind === "descriptor";
}

/** True when `path` and the specification name the same file. */
export function isEndpointFile(spec: EndpointSpec, path: string): boolean {
  switch (spec.kind) {
    case "path":
      // The FIFO may not exist yet.
      return resolve(spec.path) === resolve(path) || isSameFile(spec.path, path);
    case "descriptor":
      return isSameFile(spec.fd, path);
    default:
      return false;
  }
}

/** A TCP endpoint as the user writes it. */
export function tcpName(host: string, port: number): string {
  return `tcp:${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/** An endpoint as the main thread passes it to the stream thread, which opens the FIFO or owns `fd`. */
export type EndpointHandle =
  | { readonly kind: "fifo"; readonly path: string }
  | {
      readonly kind: "pipe" | "socket" | "file";
      /** The user's text, for messages. */
      readonly name: string;
      readonly fd: number;
    };

/**
 * What the user named cannot be a sink or a source. The message starts with "it" or names what is
 * wrong; `hint` says what to do about it.
 */
export class UnusableError extends Error {
  override readonly name = "UnusableError";
  constructor(
    message: string,
    readonly hint: string,
    /** The file that standard output may be redirected to instead. */
    readonly file?: string,
  ) {
    super(message);
  }
}
