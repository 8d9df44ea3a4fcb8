/** What the value of `pipe=` or `read=` means, and the far end that it leads to. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { isSameFile } from "../../process/same-file.ts";
import type { EndSignal } from "../../process/signals.ts";
import { startSinkCommand, startSourceCommand } from "./command.ts";
import { connectTcp, connectUnix, tcpName } from "./connect.ts";
import { inheritDescriptor } from "./descriptor.ts";
import type { Direction } from "../spec.ts";
import type { FarEnd } from "./far-end.ts";
import { openFile } from "./file.ts";
import { prepareFifo } from "./fifo.ts";
import { UnusableError } from "./unusable.ts";

export type Target =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "descriptor"; readonly name: string; readonly fd: number }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "exec"; readonly command: string };

/** Where `-` stands for. */
const STANDARD = {
  write: { kind: "descriptor", name: "standard output", fd: 1 },
  read: { kind: "descriptor", name: "standard input", fd: 0 },
} as const;

/**
 * Reads the value of `pipe=` or `read=`. A path that looks like one of the other forms is written with `./`.
 *
 * @throws UnusableError for one that starts like another form but is not
 */
export function parseTarget(text: string, direction: Direction): Target {
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

function parseTcp(text: string): Target {
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

/** A target as the user wrote it. */
export function targetText(target: Target): string {
  switch (target.kind) {
    case "path":
      return target.path;
    case "descriptor":
      return target.fd <= 1 && target.name.startsWith("standard") ? "-" : target.name;
    case "tcp":
      return tcpName(target.host, target.port);
    case "exec":
      return `exec:${target.command}`;
  }
}

/** True when a source of this kind may know how long it is, once it is open. */
export function mayTellLength({ kind }: Target): boolean {
  return kind === "path" || kind === "descriptor";
}

/** True when `path` leads to the very file that the target names, by whatever name. */
export function isTarget(target: Target, path: string): boolean {
  switch (target.kind) {
    case "path":
      // A FIFO may be yet to be made.
      return resolve(target.path) === resolve(path) || isSameFile(target.path, path);
    case "descriptor":
      return isSameFile(target.fd, path);
    default:
      return false;
  }
}

/**
 * Opens, connects, makes or starts what the target names.
 *
 * @param size the stream's length in bytes where it is known
 * @param interruption its `stop` is aborted when there is no time to wait any more; `raise` tells of a
 *   signal from the terminal that only a command has got
 * @throws UnusableError when a stream cannot go that way; other errors when it cannot be had
 */
export async function openFarEnd(
  target: Target,
  direction: Direction,
  size: bigint | undefined,
  interruption?: { readonly stop: AbortSignal; raise(signal: EndSignal): void },
): Promise<FarEnd> {
  switch (target.kind) {
    case "path":
      return openPath(target.path, direction, size);
    case "descriptor":
      return inheritDescriptor(target.name, target.fd, direction, size);
    case "tcp":
      return await connectTcp(target.host, target.port, direction, interruption?.stop);
    case "exec": {
      const start = direction === "write" ? startSinkCommand : startSourceCommand;
      return start(target.command, size, (signal) => interruption?.raise(signal));
    }
  }
}

function openPath(path: string, direction: Direction, size: bigint | undefined): FarEnd {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined || stats.isFIFO()) return prepareFifo(path, direction);
  if (stats.isSocket()) return connectUnix(path);
  if (stats.isDirectory()) throw new UnusableError("it is a folder", "name a FIFO inside it");
  if (stats.isFile() && direction === "write") {
    throw new UnusableError(
      "it is a regular file, not a pipe",
      `remove it, or write to standard output: pipe=- > ${path}`,
    );
  }
  return openFile(path, direction, size);
}
