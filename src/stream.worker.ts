/** The stream thread: puts an endpoint, a stream and the engine together, and runs them to the end. */
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { WakeUp } from "../ffi/poll.ts";
import { Digest } from "./endpoint/checksum.ts";
import { ChecksumSink } from "./endpoint/sinks/checksum-sink.ts";
import { createSink } from "./endpoint/sinks/create.ts";
import { createSource } from "./endpoint/sources/create.ts";
import { Counters } from "./stream/counters.ts";
import { Engine } from "./stream/engine.ts";
import {
  type Command,
  endOf,
  flushes,
  type StreamEvent,
  type StreamPlan,
  type StreamThreadData,
} from "./stream/messages.ts";
import { DryRunStream } from "./stream/dry-run/dry-run-stream.ts";
import { ReadStream } from "./stream/read/read-stream.ts";
import type { Stream } from "./stream/stream.ts";
import { WriteStream } from "./stream/write/write-stream.ts";

/** Runs one stream from start to end; returns when it is over. */
function runStreamThread(): void {
  const data = workerData as StreamThreadData;
  const { port, wakeFd, counters } = data;
  const post = (event: StreamEvent) => port.postMessage(event);
  const engine = new Engine({
    stream: createStream(data, new Counters(counters), post),
    idleTimeout: data.idleTimeout,
    wake: new WakeUp(wakeFd),
    receive: () => receiveMessageOnPort(port)?.message as Command | undefined,
    post,
  });
  while (!engine.over) engine.turn();
  port.close();
}

function createStream(
  plan: StreamPlan,
  counters: Counters,
  post: (event: StreamEvent) => void,
): Stream {
  const { held: window, checksum } = plan;
  const reconnect = plan.reconnect !== undefined;
  const size = endOf(plan);
  if (plan.direction === "read") {
    return new ReadStream({
      source: createSource(plan.endpoint),
      size,
      endless: plan.size === undefined,
      window,
      reconnect,
      pad: plan.pad,
      exact: plan.exact,
      awaitsExit: plan.awaitsExit,
      digest: checksum === undefined ? undefined : new Digest(checksum),
      counters,
      post,
    });
  }
  const sink = createSink(plan.endpoint);
  if (plan.dryRun === true) {
    sink.close();
    return new DryRunStream({ size, window, counters, post });
  }
  return new WriteStream({
    sink: checksum === undefined ? sink : new ChecksumSink(sink, checksum),
    size,
    window,
    remembered: reconnect ? window : 0,
    flushes: flushes(plan),
    counters,
    post,
  });
}

runStreamThread();
