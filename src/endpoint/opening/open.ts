/** Opens the endpoint of `pipe=` or `read=` on the main thread. */
import { fstatSync, statSync } from "node:fs";
import { isTerminal } from "../../../ffi/terminal.ts";
import { O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { close, open } from "../../../ffi/fd.ts";
import type { EndSignal } from "../../process/signals.ts";
import { type Direction, type EndpointSpec, UnusableError } from "../spec.ts";
import { claimBlockDevice } from "./block-device.ts";
import { startSinkCommand, startSourceCommand, type StreamFacts } from "./command.ts";
import { connectTcp, connectUnix } from "./connect.ts";
import { describeOrClose, inheritDescriptor } from "./descriptor.ts";
import { type Endpoint, PLAIN } from "./endpoint.ts";
import { prepareFifo } from "./fifo.ts";

/**
 * Opens, connects, makes or starts what the user named.
 *
 * @param facts the stream's length in bytes and its export name, if known
 * @param stopSignal `stop` aborts a connection attempt; `raise` is called with a signal of the terminal
 *   that has reached only the command of `exec:`
 * @throws UnusableError when it cannot be an endpoint; other errors when it cannot be opened
 */
export async function openEndpoint(
  spec: EndpointSpec,
  direction: Direction,
  facts: StreamFacts,
  stopSignal?: { readonly stop: AbortSignal; raise(signal: EndSignal): void },
): Promise<Endpoint> {
  const { size } = facts;
  switch (spec.kind) {
    case "path":
      return openPath(spec.path, direction, size);
    case "descriptor":
      return inheritDescriptor(spec.name, spec.fd, direction, size);
    case "tcp":
      return await connectTcp(spec.host, spec.port, direction, stopSignal?.stop);
    case "exec": {
      const start = direction === "write" ? startSinkCommand : startSourceCommand;
      return start(spec.command, facts, (signal) => stopSignal?.raise(signal));
    }
  }
}

function openPath(path: string, direction: Direction, size: bigint | undefined): Endpoint {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined || stats.isFIFO()) return prepareFifo(path, direction);
  if (stats.isSocket()) return connectUnix(path);
  if (stats.isDirectory()) throw new UnusableError("it is a folder", "name a FIFO inside it");
  if (stats.isFile() && direction === "write") {
    throw new UnusableError(
      "it is a regular file, not a pipe",
      "remove it, or write to standard output",
      path,
    );
  }
  return openFile(path, direction, size);
}

/**
 * Opens a character or block device or, as a source, a regular file.
 *
 * @param size the stream's length in bytes if known
 * @throws UnusableError for a terminal, and for a block device as the sink that is in use or too small;
 *   SyscallError when it cannot be opened
 */
export function openFile(path: string, direction: Direction, size: bigint | undefined): Endpoint {
  const fd =
    direction === "read"
      ? open(path, O_RDONLY)
      : statSync(path).isBlockDevice()
        ? claimBlockDevice(path, O_WRONLY)
        : open(path, O_WRONLY);
  if (isTerminal(fd)) {
    close(fd);
    throw new UnusableError("it is a terminal", "name a pipe, a socket or a file");
  }
  return { ...PLAIN, name: path, ...describeOrClose(path, fd, fstatSync(fd), direction, size) };
}
