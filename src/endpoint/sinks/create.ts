/** From a description to the sink. */
import type { EndpointHandle } from "../spec.ts";
import { FifoSink, PipeSink } from "./pipe-sink.ts";
import { FileSink } from "./file-sink.ts";
import type { Sink } from "./sink.ts";
import { SocketSink } from "./socket-sink.ts";

/** The sink itself, not open yet. */
export function createSink(spec: EndpointHandle): Sink {
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
