/** `check pipe=X` and `check read=X`: what X is, without touching it. */
import { accessSync, constants, type BigIntStats, statSync } from "node:fs";
import { lookup } from "node:dns/promises";
import { dirname, resolve } from "node:path";
import type { Direction, EndpointSpec } from "../endpoint/spec.ts";
import { messageOf } from "../errors.ts";
import { hasTcpListener, hasUnixListener, isOwnAddress } from "../process/listeners.ts";
import { checkDescriptor } from "./descriptor.ts";
import { checkFifo, pipeSizeItem } from "./fifo.ts";
import { checkFile } from "./file.ts";
import { endpointItem as item, type Item } from "./item.ts";

/**
 * Looks at what `pipe=` or `read=` names. Nothing is opened, connected to, made or started: the far
 * end of a stream has one stream to take, and a check must not be it.
 *
 * @param size the stream's length in bytes, where it is known
 */
export async function checkEndpoint(
  target: EndpointSpec,
  direction: Direction,
  size: bigint | undefined,
): Promise<Item[]> {
  switch (target.kind) {
    case "path":
      return checkPath(target.path, direction, size);
    case "descriptor":
      return checkDescriptor(target.name, target.fd, direction, size);
    case "tcp":
      return await checkTcp(target.host, target.port, direction);
    case "exec":
      return checkCommand(target.command);
  }
}

function checkPath(path: string, direction: Direction, size: bigint | undefined): Item[] {
  let stats: BigIntStats | undefined;
  try {
    stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    return [item("kind", "failed", `it cannot be looked at: ${messageOf(error)}`)];
  }
  if (stats === undefined) return checkMissing(path);
  if (stats.isFIFO()) return checkFifo(path, stats, direction);
  if (stats.isSocket()) return checkSocket(path);
  if (stats.isDirectory()) {
    return [item("kind", "failed", "a folder: name a FIFO inside it")];
  }
  return checkFile(path, stats, direction, size);
}

function checkMissing(path: string): Item[] {
  const folder = dirname(resolve(path));
  const kind = item(
    "kind",
    "ok",
    "nothing yet: a named pipe is made (mode 0600), and removed at the end",
  );
  try {
    if (!statSync(folder).isDirectory()) throw new Error(`${folder} is no folder`);
    accessSync(folder, constants.W_OK | constants.X_OK);
    return [kind, pipeSizeItem()];
  } catch (error) {
    return [
      item("kind", "note", "nothing yet: a named pipe would be made"),
      item("can be made", "failed", `${messageOf(error)}: check the folder and its permissions`),
    ];
  }
}

function checkSocket(path: string): Item[] {
  const kind = item("kind", "ok", "a Unix socket, which is connected to");
  try {
    accessSync(path, constants.W_OK);
  } catch (error) {
    return [kind, item("can be opened", "failed", messageOf(error))];
  }
  const listens = hasUnixListener(path);
  if (listens === undefined) {
    return [
      kind,
      item("other end", "warning", "/proc/net/unix does not tell whether anybody listens"),
    ];
  }
  const nobody = "nobody listens on it here: start the program that listens on it first";
  return [
    kind,
    listens
      ? item("other end", "ok", "somebody listens on it")
      : item("other end", "failed", nobody),
  ];
}

async function checkTcp(host: string, port: number, direction: Direction): Promise<Item[]> {
  const kind = item("kind", "ok", `TCP: ${host} port ${port} is connected to`);
  let addresses: string[];
  try {
    addresses = (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    return [kind, item("address", "failed", `the host ${host} is not known: check its name`)];
  }
  const address = item("address", "ok", addresses.join(", "));
  const listens = addresses.every(isOwnAddress) ? listensAt(addresses, port) : undefined;
  if (listens === true) return [kind, address, item("other end", "ok", "somebody listens there")];
  if (listens === false) {
    const text = "nobody listens there: start the program that listens there first";
    return [kind, address, item("other end", "failed", text)];
  }
  const taken = direction === "write" ? "takes it for the stream" : "gives the stream to it";
  const text = `not tried: whoever listens there ${taken}`;
  return [kind, address, item("other end", "note", text)];
}

/** True when one of the addresses answers; undefined when that cannot be told. */
function listensAt(addresses: readonly string[], port: number): boolean | undefined {
  const all = addresses.map((address) => hasTcpListener(address, port));
  return all.includes(undefined) ? undefined : all.includes(true);
}

function checkCommand(command: string): Item[] {
  const kind = item("kind", "ok", "a command for /bin/sh, which is not started by this check");
  try {
    accessSync("/bin/sh", constants.X_OK);
  } catch (error) {
    return [kind, item("shell", "failed", messageOf(error))];
  }
  // Anything but a plain name may be a word of the shell's own.
  const [, name] = /^\s*([A-Za-z0-9_./+-]+)(?:\s|$)/.exec(command) ?? [];
  if (name === undefined || Bun.which(name) !== null) return [kind, pipeSizeItem()];
  const text = `${name} is not in PATH: install it, unless it is a word of the shell's own`;
  return [kind, item("program", "warning", text), pipeSizeItem()];
}
