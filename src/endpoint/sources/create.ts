/** Creates the source for an endpoint. */
import type { EndpointHandle } from "../spec.ts";
import { FifoSource, PipeSource } from "./pipe-source.ts";
import { RelayedSource } from "./relayed-source.ts";
import type { Source } from "./source.ts";

/** @returns the source, not open yet */
export function createSource(handle: EndpointHandle): Source {
  switch (handle.kind) {
    case "fifo":
      return new FifoSource(handle.path);
    case "pipe":
      return new PipeSource(handle.name, handle.fd);
    case "socket":
    case "file":
      return new RelayedSource(handle.name, handle.fd, handle.kind === "socket");
  }
}
