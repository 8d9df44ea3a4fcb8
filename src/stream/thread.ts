/** The body of the stream thread. */
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { WakeUp } from "../../ffi/poll.ts";
import { createSink } from "../endpoint/spec.ts";
import { toOffset } from "../protocol/offset.ts";
import { Counters } from "./counters.ts";
import { Engine } from "./engine.ts";
import type { Command, StreamEvent, StreamThreadData } from "./messages.ts";

/** Runs one stream from start to end; returns when it is over. */
export function runStreamThread(): void {
  const { port, wakeFd, counters, sink, size, window, reconnect } = workerData as StreamThreadData;
  const engine = new Engine({
    sink: createSink(sink),
    size: toOffset(size),
    window,
    reconnect,
    counters: new Counters(counters),
    wake: new WakeUp(wakeFd),
    receive: () => receiveMessageOnPort(port)?.message as Command | undefined,
    post: (event: StreamEvent) => port.postMessage(event),
  });
  while (!engine.over) engine.turn();
  port.close();
}
