/** What clients are told about the disk that stands for a stream. */
import {
  advertisedSize,
  type ExportInfo,
  READ_FLAGS,
  UNBOUNDED_SIZE,
  WRITE_FLAGS,
} from "../protocol/export.ts";
import { toOffset } from "../protocol/offset.ts";
import type { StreamPlan } from "../stream/messages.ts";

/** @param name the only export name; undefined admits every name */
export function exportInfo(name: string | undefined, { direction, size }: StreamPlan): ExportInfo {
  const common = { name, size: advertisedSize(toOffset(size ?? UNBOUNDED_SIZE)) };
  return direction === "write"
    ? { ...common, flags: WRITE_FLAGS, description: "a stream: write from the start to the end" }
    : { ...common, flags: READ_FLAGS, description: "a stream: read from the start to the end" };
}
