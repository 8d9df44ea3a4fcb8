import type { Item, State } from "./report.ts";

/** A finding about the far end. */
export function farEndItem(name: string, state: State, text: string): Item {
  return { topic: "far end", name, state, text };
}
