/** From a description to the source. */
import type { EndpointHandle } from "../spec.ts";
import { FifoSource, PipeSource } from "./pipe-source.ts";
import { RelayedSource } from "./relayed-source.ts";
import type { Source } from "./source.ts";

/** The source itself, not open yet. */
export function createSource(spec: EndpointHandle): Source {
  switch (spec.kind) {
    case "fifo":
      return new FifoSource(spec.path);
    case "pipe":
      return new PipeSource(spec.name, spec.fd);
    case "socket":
    case "file":
      return new RelayedSource(spec.name, spec.fd, spec.kind === "socket");
  }
}
