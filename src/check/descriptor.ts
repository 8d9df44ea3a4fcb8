/** `check` of `-` and `fd:N`. */
import { fstatSync } from "node:fs";
import { POLLERR, POLLHUP, POLLIN } from "../../ffi/constants.ts";
import { bytesReadable, close } from "../../ffi/fd.ts";
import { pipeSize } from "../../ffi/pipe.ts";
import { PollSet } from "../../ffi/poll.ts";
import { inspectDescriptor } from "../endpoint/opening/descriptor.ts";
import type { Endpoint } from "../endpoint/opening/endpoint.ts";
import { type Direction, UnusableError } from "../endpoint/spec.ts";
import { deviceUseItem } from "./file.ts";
import { endpointItem as item, type Item } from "./item.ts";

/** A descriptor is open already, so looking at it disturbs nobody. */
export function checkDescriptor(
  name: string,
  number: number,
  direction: Direction,
  size: bigint | undefined,
): Item[] {
  let endpoint: Endpoint;
  try {
    endpoint = inspectDescriptor(name, number, direction, size);
  } catch (error) {
    if (!(error instanceof UnusableError)) throw error;
    return [item("kind", "failed", `${name}: ${error.message}; ${error.hint}`)];
  }
  const { handle, length } = endpoint;
  if (handle.kind === "fifo") return [];
  try {
    const stats = fstatSync(handle.fd, { bigint: true });
    const what = stats.isFile()
      ? "a file"
      : stats.isFIFO()
        ? "a pipe"
        : stats.isSocket()
          ? "a socket"
          : "a device";
    const left = length === undefined ? "" : `, with ${length} bytes left`;
    const items = [item("kind", "ok", `${name}: ${what}${left}`)];
    if (stats.isBlockDevice() && direction === "write") items.push(deviceUseItem(stats));
    if (handle.kind === "pipe") items.push(...pipeItems(handle.fd, direction));
    return items;
  } finally {
    close(handle.fd);
  }
}

function pipeItems(fd: number, direction: Direction): Item[] {
  const poll = new PollSet();
  poll.add(fd, direction === "write" ? 0 : POLLIN);
  poll.wait(0);
  const gone = (poll.revents(0) & (POLLERR | POLLHUP)) !== 0;
  const waiting = direction === "read" ? bytesReadable(fd) : 0;
  const who = direction === "write" ? "reader" : "writer";
  const size = item(
    "pipe size",
    "ok",
    `${pipeSize(fd)} bytes now; it is grown as far as the kernel grants`,
  );
  if (!gone) return [item("other end", "ok", `a ${who} is there`), size];
  if (waiting > 0) {
    return [
      item("other end", "warning", `its writer has gone, and has left ${waiting} bytes`),
      size,
    ];
  }
  return [item("other end", "failed", `its ${who} has gone: start it again`), size];
}
