/** What a check says of one thing. */

/**
 * `ok`: as it should be. `note`: worth knowing. `warning`: it may go wrong. `failed`: it does not
 * work like this.
 */
export type State = "ok" | "note" | "warning" | "failed";

/** One thing that was looked at. */
export interface Item {
  readonly topic: "machine" | "self-test" | "endpoint" | "client";
  readonly name: string;
  readonly state: State;
  /** What it is like and, where something is wrong, what to do. */
  readonly text: string;
}

/** What was found about an endpoint. */
export function endpointItem(name: string, state: State, text: string): Item {
  return { topic: "endpoint", name, state, text };
}
