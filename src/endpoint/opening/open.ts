/** From what the user named to an open endpoint, on the main thread. */
import { statSync } from "node:fs";
import type { EndSignal } from "../../process/signals.ts";
import { type Direction, type EndpointSpec, UnusableError } from "../spec.ts";
import { startSinkCommand, startSourceCommand } from "./command.ts";
import { connectTcp, connectUnix } from "./connect.ts";
import { inheritDescriptor } from "./descriptor.ts";
import type { Endpoint } from "./endpoint.ts";
import { prepareFifo } from "./fifo.ts";
import { openFile } from "./file.ts";

/**
 * Opens, connects, makes or starts what the user named.
 *
 * @param size the stream's length in bytes where it is known
 * @param stopSignal its `stop` is aborted when there is no time to wait any more; `raise` tells of a
 *   signal from the terminal that only a command has got
 * @throws UnusableError when a stream cannot go that way; other errors when it cannot be had
 */
export async function openEndpoint(
  spec: EndpointSpec,
  direction: Direction,
  size: bigint | undefined,
  stopSignal?: { readonly stop: AbortSignal; raise(signal: EndSignal): void },
): Promise<Endpoint> {
  switch (spec.kind) {
    case "path":
      return openPath(spec.path, direction, size);
    case "descriptor":
      return inheritDescriptor(spec.name, spec.fd, direction, size);
    case "tcp":
      return await connectTcp(spec.host, spec.port, direction, stopSignal?.stop);
    case "exec": {
      const start = direction === "write" ? startSinkCommand : startSourceCommand;
      return start(spec.command, size, (signal) => stopSignal?.raise(signal));
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
