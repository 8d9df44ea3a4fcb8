/** A stream thread that needs 400 ms for the first question of each kind, and none for the others. */
import type { Command, StreamEvent } from "../../src/stream/messages.ts";

declare const self: Worker;

const asked = new Map<string, number>();

function answer(type: Command["type"], number: number): StreamEvent | undefined {
  if (type === "sync") return { type: "synced" };
  if (type === "evict-idle") return { type: "evicted", found: number === 1 };
  if (type !== "get-status") return undefined;
  const clients = { active: number, repeated: 0, waitsForEndpoint: false, silence: 0 };
  return { type: "status", full: false, moved: false, ...clients };
}

self.addEventListener("message", ({ data }: MessageEvent<Command>) => {
  const number = (asked.get(data.type) ?? 0) + 1;
  asked.set(data.type, number);
  const event = answer(data.type, number);
  if (event === undefined) {
    if (data.type === "abort") process.exit();
    return;
  }
  if (number === 1) Bun.sleepSync(data.type === "evict-idle" ? 800 : 400);
  self.postMessage(event);
});
