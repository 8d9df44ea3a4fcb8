/** A far end as plain data, which can be sent to the thread that opens it. */

/** Which way a stream goes: from clients to a sink, or from a source to clients. */
export type Direction = "write" | "read";

export type EndpointSpec =
  | { readonly kind: "fifo"; readonly path: string }
  /** A descriptor that the receiver then owns. */
  | {
      readonly kind: "pipe" | "socket" | "file";
      /** What the user called it. */
      readonly name: string;
      readonly fd: number;
    };
