/** A sink as plain data, which can be sent to the thread that opens it. */
import { FifoSink } from "./fifo.ts";
import { FileSink } from "./file-sink.ts";
import { PipeSink } from "./pipe-sink.ts";
import type { Sink } from "./sink.ts";
import { SocketSink } from "./socket-sink.ts";

export type SinkSpec =
  | { readonly kind: "fifo"; readonly path: string }
  /** A descriptor that the receiver then owns. */
  | {
      readonly kind: "pipe" | "socket" | "file";
      /** What the user called it. */
      readonly name: string;
      readonly fd: number;
    };

/** The sink itself, not open yet. */
export function createSink(spec: SinkSpec): Sink {
  switch (spec.kind) {
    case "fifo":
      return new FifoSink(spec.path);
    case "pipe":
      return new PipeSink(spec.name, spec.fd);
    case "socket":
      return new SocketSink(spec.name, spec.fd);
    case "file":
      return new FileSink(spec.name, spec.fd);
  }
}
