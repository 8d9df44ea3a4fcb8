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
   * TLS begins: once the output is sent, all bytes belong to it, and what comes out of it goes on to
   * `Negotiation.secured` and then `push`.
   */
  | { readonly kind: "starttls" }
  /**
   * The connection is to be closed once the output is sent. `reason` is for the log; `fault` is true
   * when the client broke the protocol.
   */
  | { readonly kind: "close"; readonly reason: string; readonly fault: boolean };

/** What a chunk of input, or an option, led to. */
export interface Step {
  /** Bytes for the client, in order. */
  readonly output: readonly Uint8Array[];
  /** Set when negotiation is over, or TLS has to begin; no further input may be pushed. */
  readonly outcome?: Outcome;
}
