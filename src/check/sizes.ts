/** What `size=` and `window=` mean for a stream. */
import { readFileSync } from "node:fs";
import type { Direction } from "../endpoint/spec.ts";
import { advertisedSize } from "../protocol/export.ts";
import { toOffset } from "../protocol/offset.ts";
import { WINDOW_BLOCK } from "../stream/blocks.ts";
import { endpointItem as item, type Item } from "./item.ts";

/** @param size bytes; undefined when not given @param window bytes; 0 when not given */
export function checkSizes(direction: Direction, size: bigint | undefined, window: number): Item[] {
  return [sizeItem(direction, size), ...(window === 0 ? [] : [windowItem(direction, window)])];
}

function sizeItem(direction: Direction, size: bigint | undefined): Item {
  const name = "size=";
  if (size !== undefined) {
    const shown = advertisedSize(toOffset(size));
    const rounded = `; clients see ${shown}, whole sectors of 512`;
    return item(name, "ok", `exactly ${size} bytes${BigInt(shown) === size ? "" : rounded}`);
  }
  return direction === "write"
    ? item(name, "note", "not given: the stream ends where the clients stop, and they see no end")
    : item(
        name,
        "note",
        "not given: a file tells by itself, a pipe or socket does not, and most clients ask for it",
      );
}

function windowItem(direction: Direction, window: number): Item {
  const name = "window=";
  const free = availableMemory();
  const much = free !== undefined && window > free;
  const warning = much ? `; this machine has ${free} bytes available now` : "";
  const state = much ? "warning" : "ok";
  if (direction === "read") {
    return item(name, state, `the last ${window} bytes are kept in memory${warning}`);
  }
  const blocks = Math.floor(window / WINDOW_BLOCK);
  if (blocks === 0) {
    const text = `${window} bytes hold nothing: memory is taken in pieces of ${WINDOW_BLOCK}`;
    return item(name, "warning", text);
  }
  const text = `up to ${blocks * WINDOW_BLOCK} bytes of memory, in pieces of ${WINDOW_BLOCK}, when needed`;
  return item(name, state, `${text}${warning}`);
}

/** Bytes that can be had without swapping (proc_meminfo(5), MemAvailable). */
function availableMemory(): number | undefined {
  try {
    const kilobytes = /^MemAvailable: +(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "latin1"));
    return kilobytes === null ? undefined : Number(kilobytes[1]) * 1024;
  } catch {
    return undefined;
  }
}
