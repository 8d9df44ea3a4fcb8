/** What negotiation leads to. */
import type { Negotiated } from "../protocol/export.ts";

/** How negotiation ended. */
export type Outcome =
  /** The transmission phase begins; `leftover` are bytes of it that came early. */
  | {
      readonly kind: "transmission";
      readonly exportName: string;
      readonly negotiated: Negotiated;
      readonly leftover: Uint8Array;
    }
  /**
   * The connection is to be closed once the output is sent. `reason` is for the log; `fault` is true
   * when the client broke the protocol.
   */
  | { readonly kind: "close"; readonly reason: string; readonly fault: boolean };

/** What a chunk of input, or an option, led to. */
export interface Step {
  /** Bytes for the client, in order. */
  readonly output: readonly Uint8Array[];
  /** Set when negotiation is over; no further input may be pushed. */
  readonly outcome?: Outcome;
}
