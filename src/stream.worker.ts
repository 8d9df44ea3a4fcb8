/** The stream thread: puts an endpoint, a stream and the engine together, and runs them to the end. */
import { close } from "../ffi/fd.ts";
import { WakeUp } from "../ffi/poll.ts";
import { Digest } from "./endpoint/checksum.ts";
import { ChecksumSink } from "./endpoint/sinks/checksum-sink.ts";
import { createSink } from "./endpoint/sinks/create.ts";
import type { Sink } from "./endpoint/sinks/sink.ts";
import { createSource } from "./endpoint/sources/create.ts";
import type { EndpointHandle } from "./endpoint/spec.ts";
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
import { HoldDryRun } from "./stream/dry-run/hold-dry-run.ts";
import { HoldStream } from "./stream/hold/hold-stream.ts";
import { ReadStream } from "./stream/read/read-stream.ts";
import { SpoolFile } from "./stream/spool-file.ts";
import type { Stream } from "./stream/stream.ts";
import { WriteStream } from "./stream/write/write-stream.ts";

/** The thread itself: a Worker of the web's kind, since `node:worker_threads` takes 10 ms to load. */
declare const self: Worker;

/** What the main thread has posted. Messages are delivered only while this thread's event loop runs. */
class Inbox {
  readonly #messages: unknown[] = [];
  #posted = 0;
  #delivered = 0;
  #notify = () => {};
  readonly #listener = ({ data }: MessageEvent) => {
    this.#messages.push(data);
    this.#delivered++;
    this.#notify();
  };

  constructor() {
    self.addEventListener("message", this.#listener);
  }

  /** Waits until `count` more messages have been delivered, which the main thread has posted. */
  async delivery(count: number): Promise<void> {
    this.#posted += count;
    while (this.#delivered < this.#posted) {
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
      });
    }
  }

  take(): unknown {
    return this.#messages.shift();
  }

  /** The thread ends when nothing can be delivered to it. */
  close(): void {
    self.removeEventListener("message", this.#listener);
  }
}

async function runStreamThread(): Promise<void> {
  const inbox = new Inbox();
  await inbox.delivery(1);
  const data = inbox.take() as StreamThreadData;
  try {
    await runStream(data, inbox);
  } catch (error) {
    post({ type: "crashed", error: error instanceof Error ? error : new Error(String(error)) });
  }
  if (!data.stays) inbox.close();
}

/** Runs one stream from start to end; resolves when it is over. */
async function runStream(data: StreamThreadData, inbox: Inbox): Promise<void> {
  const wake = new WakeUp(data.wakeFd);
  const engine = new Engine({
    stream: createStream(data, new Counters(data.counters)),
    idleTimeout: data.idleTimeout,
    wakeFd: data.wakeFd,
    receive: () => inbox.take() as Command | undefined,
    post,
  });
  try {
    while (!engine.over) {
      engine.turn();
      if (!engine.woken) continue;
      // Each command is posted first, and then the descriptor is signalled.
      await inbox.delivery(wake.clear());
    }
  } catch (error) {
    engine.abandon();
    await inbox.delivery(wake.clear());
    discardAll(inbox);
    throw error;
  }
}

/** Closes what came for a stream that has died. */
function discardAll(inbox: Inbox): void {
  for (;;) {
    const command = inbox.take() as Command | undefined;
    if (command === undefined) return;
    if (command.type === "connection") close(command.client.fd);
    if (command.type === "sink") createSink(command.endpoint).close();
  }
}

function post(event: StreamEvent): void {
  postMessage(event);
}

function createStream(plan: StreamPlan, counters: Counters): Stream {
  const { held: window, checksum, single } = plan;
  const reconnect = plan.reconnect !== undefined;
  const size = endOf(plan);
  if (plan.direction === "read") {
    return new ReadStream({
      source: createSource(plan.endpoint as EndpointHandle),
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
  const sinkOf = (endpoint: EndpointHandle) => {
    const sink = createSink(endpoint);
    return checksum === undefined ? sink : new ChecksumSink(sink, checksum);
  };
  const sink = plan.endpoint === undefined ? undefined : sinkOf(plan.endpoint);
  const spool = plan.spool === undefined ? undefined : new SpoolFile(plan.spool, counters);
  if (plan.dryRun === true) {
    sink?.close();
    return plan.hold
      ? new HoldDryRun({ spool: spool as SpoolFile, size, counters, post })
      : new DryRunStream({ size, window, spool, counters, post });
  }
  if (plan.hold) {
    return new HoldStream({
      spool: spool as SpoolFile,
      sink,
      sinkOf,
      size,
      reconnect,
      single,
      counters,
      post,
    });
  }
  return new WriteStream({
    sink: sink as Sink,
    size,
    window,
    spool,
    remembered: reconnect ? window : 0,
    flushes: flushes(plan),
    single,
    counters,
    post,
  });
}

void runStreamThread();
