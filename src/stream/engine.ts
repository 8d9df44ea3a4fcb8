/**
 * The stream thread's loop: one synchronous poll(2) over the wake descriptor, the sink and every
 * client. Nothing else in the thread waits.
 */
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP } from "../../ffi/constants.ts";
import { close } from "../../ffi/fd.ts";
import { PollSet, type WakeUp } from "../../ffi/poll.ts";
import { type Sink, SinkError } from "../endpoint/sink.ts";
import type { Offset } from "../protocol/offset.ts";
import { BufferPool } from "./buffer-pool.ts";
import type { Channel } from "./channel.ts";
import { Connection } from "./connection.ts";
import type { Counters } from "./counters.ts";
import { Emitter } from "./emitter.ts";
import { tooShort } from "./failure.ts";
import type { Command, ShortStream, StreamEvent } from "./messages.ts";
import { SequentialRule } from "./rule.ts";
import { Stream } from "./stream.ts";
import { Window } from "./window.ts";

/** Milliseconds between two looks for a reader: a FIFO does not tell when one comes. */
const OPEN_INTERVAL = 20;
/** Milliseconds between two looks at what the reader has left: a pipe does not tell that either. */
const DRAIN_INTERVAL = 5;
/** Anything but POLLIN and POLLOUT that may come back for a client. */
const HANGUP = POLLRDHUP | POLLHUP | POLLERR;

/** What the engine is made of. */
export interface EngineOptions {
  readonly sink: Sink;
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Bytes that may be held ahead of the head; 0 is none. */
  readonly window: number;
  /** Clients whose connection is lost may come back and go on. */
  readonly reconnect: boolean;
  readonly counters: Counters;
  /** Readable when {@link receive} has something. */
  readonly wake: WakeUp;
  /** The next command, if there is one. */
  readonly receive: () => Command | undefined;
  readonly post: (event: StreamEvent) => void;
}

/** Runs a stream from the first client to the end. */
export class Engine {
  readonly #options: EngineOptions;
  readonly #sink: Sink;
  readonly #emitter: Emitter;
  readonly #stream: Stream;
  readonly #pool = new BufferPool();
  readonly #poll = new PollSet();
  readonly #connections: Connection[] = [];
  #state: "running" | "finishing" | "over" = "running";
  /** The reader has taken everything and left. */
  #readerDone = false;
  /** An answer is asked for, once everything has been looked at. */
  #echo: "asked" | "looking" | undefined;
  /** What the finish makes of a stream that has not reached its size. */
  #short: ShortStream = "allow";
  /** Milliseconds that a silent client is given; set when no more is expected of any. */
  #patience: number | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#sink = options.sink;
    this.#emitter = new Emitter(options.sink, options.counters);
    const window = options.window > 0 ? new Window(options.window) : undefined;
    const rule = new SequentialRule(options.size, window);
    this.#stream = new Stream(rule, this.#emitter, options.post, options.reconnect);
  }

  /** True when the stream has ended and everything is closed. */
  get over(): boolean {
    return this.#state === "over";
  }

  /** Does what can be done, then waits up to `limit` milliseconds (-1: as long as it takes). */
  turn(limit = -1): void {
    this.#options.wake.clear();
    for (let command = this.#options.receive(); command; command = this.#options.receive()) {
      this.#obey(command);
    }
    if (this.over) return;
    this.#openSink();
    for (const connection of this.#connections) {
      if (connection.runnable) connection.advance();
    }
    this.#reap();
    if (this.#state === "finishing") this.#finish();
    this.#answerEcho();
    if (!this.over) this.#wait(limit);
  }

  #obey(command: Command): void {
    switch (command.type) {
      case "connection": {
        const { id, fd, leftover } = command;
        // Too late: nothing may be written behind a finish.
        if (this.#state !== "running") {
          close(fd);
          this.#options.post({
            type: "closed",
            id,
            end: "dropped",
            wrote: false,
            succeeded: false,
          });
          break;
        }
        this.#connections.push(new Connection(id, fd, leftover, this.#stream, this.#pool));
        break;
      }
      case "last-words":
        this.#patience = command.idle;
        for (const connection of this.#connections) connection.idleSince = performance.now();
        break;
      case "give-up":
        this.#stream.closeBooks();
        break;
      case "finish":
        this.#stream.closeBooks();
        this.#short = command.short;
        this.#judgeLength();
        this.#state = "finishing";
        break;
      case "echo":
        this.#echo = "asked";
        break;
      case "abort":
        this.#end();
    }
  }

  /** Answers once poll(2) has been asked since, and nobody has anything left to do. */
  #answerEcho(): void {
    if (this.#echo === "looking" && !this.#connections.some((c) => c.runnable)) {
      this.#echo = undefined;
      this.#options.post({ type: "echo" });
    } else if (this.#echo === "asked") {
      this.#echo = "looking";
    }
  }

  #judgeLength(): void {
    const { rule } = this.#stream;
    if (this.#short === "fail" && rule.end < rule.size) {
      this.#stream.break(tooShort(rule.end, rule.size));
    }
  }

  #openSink(): void {
    if (this.#sink.fd >= 0 || this.#stream.failure !== undefined) return;
    try {
      if (!this.#sink.open()) return;
      this.#emitter.ready = true;
      this.#options.post({ type: "sink-open" });
    } catch (error) {
      if (!(error instanceof SinkError)) throw error;
      this.#stream.sinkFailed(error);
    }
  }

  #reap(): void {
    for (let i = this.#connections.length - 1; i >= 0; i--) {
      const connection = this.#connections[i] as Connection;
      const { id, ended, wrote } = connection;
      if (ended === undefined) continue;
      connection.close();
      this.#connections.splice(i, 1);
      // Over TCP a client may be back before it is missed.
      const succeeded = this.#connections.some((c) => c.wrote);
      if (wrote && ended !== "disconnected") this.#stream.clientLost(succeeded);
      this.#options.post({ type: "closed", id, end: ended, wrote, succeeded });
    }
  }

  /** Brings out the last zeroes, and waits until the reader has taken everything. */
  #finish(): void {
    if (this.#stream.failure !== undefined) {
      this.#end();
      return;
    }
    if (this.#sink.fd < 0) return;
    try {
      if (!this.#flushAll() || this.#sink.unread() > 0) return;
      this.#sink.complete();
      this.#end();
    } catch (error) {
      if (!(error instanceof SinkError)) throw error;
      this.#stream.sinkFailed(error);
      this.#end();
    }
  }

  /** Brings out what the window holds, then what is pending. @returns true when all is out */
  #flushAll(): boolean {
    const { rule } = this.#stream;
    while (this.#emitter.flush()) {
      if (rule.window?.start !== undefined) {
        this.#stream.advanceWindow();
      } else {
        const zeroes = rule.fill(this.#short === "pad" ? rule.size : rule.pending);
        if (zeroes === 0) return true;
        this.#emitter.pushZeroes(zeroes);
      }
    }
    return false;
  }

  #end(): void {
    for (const connection of this.#connections) connection.close();
    this.#connections.length = 0;
    const checksum = this.#sink.digest?.();
    this.#sink.close();
    this.#state = "over";
    const windowNeeded = this.#stream.rule.window?.needed ?? 0;
    this.#options.post({ type: "ended", windowNeeded, checksum });
  }

  #wait(limit: number): void {
    const poll = this.#poll;
    poll.clear();
    poll.add(this.#options.wake.fd, POLLIN);
    const polled = this.#sink.fd >= 0 && !this.#readerDone;
    const sinkAt = polled ? poll.add(this.#sink.fd, this.#sinkEvents()) : -1;
    const first = sinkAt < 0 ? 1 : 2;
    for (const connection of this.#connections) {
      // A peer that is gone is reported at every poll, wanted or not: -1 keeps the place and is
      // silent.
      const events = clientEvents(connection.channel);
      const { gone, fd } = connection.channel;
      poll.add(gone && events === 0 ? -1 : fd, events);
    }
    poll.wait(this.#timeout(limit));
    if (sinkAt >= 0) this.#sinkReported(poll.revents(sinkAt));
    for (const [i, connection] of this.#connections.entries()) {
      const revents = poll.revents(first + i);
      if (revents !== 0) clientReported(connection, revents);
    }
    this.#endSilent();
  }

  #sinkEvents(): number {
    if (this.#emitter.ready) return 0;
    return !this.#emitter.idle || this.#connections.some((c) => c.channel.needsSink) ? POLLOUT : 0;
  }

  #sinkReported(revents: number): void {
    // A pipe without a reader is POLLERR, a socket whose peer has closed POLLHUP.
    if ((revents & (POLLERR | POLLHUP)) !== 0) {
      const unread = this.#sink.unread();
      // At the end of the stream a reader that has taken everything is free to go.
      const { rule } = this.#stream;
      const last = this.#state === "finishing" || rule.head === rule.size;
      this.#readerDone = last && this.#emitter.idle && unread === 0;
      if (!this.#readerDone) this.#stream.readerGone(unread);
    } else if ((revents & POLLOUT) !== 0) {
      this.#emitter.ready = true;
    }
  }

  #timeout(limit: number): number {
    let timeout = limit < 0 ? Number.POSITIVE_INFINITY : limit;
    const within = (milliseconds: number) => {
      timeout = Math.min(timeout, Math.max(0, Math.ceil(milliseconds)));
    };
    if (this.#echo !== undefined) within(0);
    if (this.#connections.some((c) => c.runnable || c.ended !== undefined)) within(0);
    if (this.#stream.failure === undefined) {
      if (this.#sink.fd < 0) within(OPEN_INTERVAL);
      else if (this.#state === "finishing") this.#withinFinish(within);
    } else if (this.#state === "finishing") {
      within(0);
    }
    if (this.#patience !== undefined) {
      for (const c of this.#connections) {
        if (waitsForClient(c.channel)) within(c.idleSince + this.#patience - performance.now());
      }
    }
    return timeout === Number.POSITIVE_INFINITY ? -1 : timeout;
  }

  #withinFinish(within: (milliseconds: number) => void): void {
    if (this.#emitter.idle) within(DRAIN_INTERVAL);
    else if (this.#emitter.ready) within(0);
  }

  /** Ends the connections whose clients have been silent for too long. */
  #endSilent(): void {
    if (this.#patience === undefined) return;
    const now = performance.now();
    for (const connection of this.#connections) {
      if (!waitsForClient(connection.channel)) connection.idleSince = now;
      else if (now - connection.idleSince >= this.#patience) connection.end("left-behind");
    }
  }
}

function clientEvents({ needsInput, replies, halfClosed }: Channel): number {
  const events = (needsInput ? POLLIN : 0) | (replies.empty ? 0 : POLLOUT);
  return events === 0 && !halfClosed ? POLLRDHUP : events;
}

/** True when it is for the client to do something. */
function waitsForClient({ needsInput, needsOutput, needsSink }: Channel): boolean {
  return (needsInput || needsOutput) && !needsSink;
}

function clientReported(connection: Connection, revents: number): void {
  if ((revents & HANGUP) !== 0) connection.hangUp((revents & (POLLHUP | POLLERR)) !== 0);
  // After a hang-up, reading and sending do not block: they give what is left, or the error.
  const { channel } = connection;
  if ((revents & (POLLIN | HANGUP)) !== 0) channel.needsInput = false;
  if ((revents & (POLLOUT | HANGUP)) !== 0) {
    channel.needsOutput = false;
    channel.replies.flush();
  }
}
