/** A sink as plain data, which can be sent to the thread that opens it. */
import { FifoSink } from "./fifo.ts";
import type { Sink } from "./sink.ts";

/** What `pipe=` names. */
export type SinkSpec = { readonly kind: "fifo"; readonly path: string };

/** The sink itself, not open yet. */
export function createSink(spec: SinkSpec): Sink {
  return new FifoSink(spec.path);
}
