/** The body of the stream thread. */
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { WakeUp } from "../../ffi/poll.ts";
import { ChecksumSink } from "../endpoint/checksum-sink.ts";
import { createSink } from "../endpoint/spec.ts";
import { toOffset } from "../protocol/offset.ts";
import { Counters } from "./counters.ts";
import { Engine } from "./engine.ts";
import type { Command, StreamEvent, StreamThreadData } from "./messages.ts";

/** Runs one stream from start to end; returns when it is over. */
export function runStreamThread(): void {
  const data = workerData as StreamThreadData;
  const { port, wakeFd, counters, size, window, reconnect, checksum } = data;
  const plain = createSink(data.sink);
  const sink = checksum === undefined ? plain : new ChecksumSink(plain, checksum);
  const engine = new Engine({
    sink,
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
