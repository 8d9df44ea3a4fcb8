/** Creates the sink for an endpoint. */
import type { EndpointHandle } from "../spec.ts";
import { FifoSink, PipeSink } from "./pipe-sink.ts";
import { FileSink } from "./file-sink.ts";
import type { Sink } from "./sink.ts";
import { SocketSink } from "./socket-sink.ts";

/** @returns the sink, not open yet */
export function createSink(handle: EndpointHandle): Sink {
  switch (handle.kind) {
    case "fifo":
      return new FifoSink(handle.path);
    case "pipe":
      return new PipeSink(handle.name, handle.fd);
    case "socket":
      return new SocketSink(handle.name, handle.fd);
    case "file":
      return new FileSink(handle.name, handle.fd);
  }
}
