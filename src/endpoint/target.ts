/** What the value of `pipe=` means, and the destination that it leads to. */
import { statSync } from "node:fs";
import { startCommand } from "./command.ts";
import { connectTcp, connectUnix } from "./connect.ts";
import { inheritDescriptor } from "./descriptor.ts";
import type { Destination } from "./destination.ts";
import { openDevice } from "./device.ts";
import { prepareFifo } from "./fifo.ts";
import { UnusableError } from "./unusable.ts";

export type Target =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "descriptor"; readonly name: string; readonly fd: number }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "exec"; readonly command: string };

const STDOUT = 1;

/**
 * Reads the value of `pipe=`. A path that looks like one of the other forms is written with `./`.
 *
 * @throws UnusableError for one that starts like another form but is not
 */
export function parseTarget(text: string): Target {
  if (text === "-") return { kind: "descriptor", name: "standard output", fd: STDOUT };
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
      throw new UnusableError("exec: takes a command", "write it behind, such as exec:'zstd > x'");
    }
    return { kind: "exec", command: rest };
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

/**
 * Opens, connects, makes or starts what the target names.
 *
 * @param size the stream's length in bytes where it is known
 * @throws UnusableError when it is no sink; other errors when it cannot be had
 */
export async function openDestination(
  target: Target,
  size: bigint | undefined,
): Promise<Destination> {
  switch (target.kind) {
    case "path":
      return openPath(target.path);
    case "descriptor":
      return inheritDescriptor(target.name, target.fd);
    case "tcp":
      return await connectTcp(target.host, target.port);
    case "exec":
      return startCommand(target.command, size);
  }
}

function openPath(path: string): Destination {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined || stats.isFIFO()) return prepareFifo(path);
  if (stats.isSocket()) return connectUnix(path);
  if (stats.isBlockDevice() || stats.isCharacterDevice()) return openDevice(path);
  if (stats.isDirectory()) throw new UnusableError("it is a folder", "name a FIFO inside it");
  throw new UnusableError(
    "it is a regular file, not a pipe",
    `remove it, or write to standard output: pipe=- > ${path}`,
  );
}
