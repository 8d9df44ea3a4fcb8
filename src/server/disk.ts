/** What clients are told about the disk that stands for a stream. */
import { advertisedSize, type ExportInfo, READ_FLAGS, writeFlags } from "../protocol/export.ts";
import { endOf, flushes, type StreamPlan } from "../stream/messages.ts";

/** @param name the only export name; undefined admits every name */
export function exportInfo(name: string | undefined, plan: StreamPlan): ExportInfo {
  const common = { name, size: advertisedSize(endOf(plan)) };
  return plan.direction === "write"
    ? {
        ...common,
        flags: writeFlags(flushes(plan)),
        description: "a stream: write from the start to the end",
      }
    : { ...common, flags: READ_FLAGS, description: "a stream: read from the start to the end" };
}
