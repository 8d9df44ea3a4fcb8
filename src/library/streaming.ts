/** The object that `serve` and `run` return. */
import { EventEmitter } from "node:events";
import { UserError } from "../errors.ts";
import type { Words } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { EndSignal } from "../process/signals.ts";
import { type Snapshot, Watch } from "../progress/watch.ts";
import { requireRecentBun } from "../runtime.ts";
import type { StreamResult } from "../server/host.ts";
import type { StreamContext } from "../server/settings.ts";
import { StopSignal } from "../server/stop-signal.ts";
import type { Summary } from "../server/summary.ts";
import { releaseEndpoint, type ResolvedStream } from "./options.ts";

/** Something to tell the user. */
export interface Message {
  /** `warn`: something is wrong, but the stream goes on; `verbose`: helps to find a fault. */
  readonly level: "info" | "warn" | "verbose";
  /** One line. */
  readonly text: string;
}

/** Where the server can be found. */
export interface Listening {
  /** For clients of this machine; undefined for a socket that was passed, or is a client. */
  readonly uri: string | undefined;
}

/** The events of a stream; the first comes in the next turn of the event loop at the earliest. */
export interface StreamingEvents {
  /** Clients can connect. */
  listening: [Listening];
  /** How far the stream is: every second or `progressInterval`, and once more at its end. */
  progress: [Snapshot];
  message: [Message];
}

/** The stream is truncated: what its reader has got is not the whole disk. */
export class TruncatedError extends UserError {
  constructor(
    readonly summary: Summary,
    /** The status of the command that has failed, 128 plus a signal's number, or 4. */
    exitStatus: number,
  ) {
    super("ERR_TRUNCATED", `the stream is truncated: ${summary.reason}`, exitStatus);
  }
}

/** A stream that is about to begin. */
export interface Beginning {
  readonly settings: Omit<ResolvedStream, "entrance">;
  /** Runs the stream. */
  readonly body: (context: StreamContext) => Promise<StreamResult>;
}

/**
 * A stream that has been started. It is awaited for its {@link Summary}, which there is only when it
 * is complete: when it is truncated, it rejects with a {@link TruncatedError}, and with another
 * {@link UserError} where it could not begin.
 */
export class Streaming extends EventEmitter<StreamingEvents> implements Promise<Summary> {
  readonly [Symbol.toStringTag] = "Streaming";
  readonly #stopSignal = new StopSignal();
  readonly #vocabulary: Vocabulary;
  readonly #result: Promise<Summary>;
  #watch: Watch | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #last: Snapshot | undefined;
  /** True once the sink or source is open. */
  #opened = () => false;

  /**
   * @param vocabulary names options in messages
   * @param begin resolves the options; what it throws is what the stream rejects with
   */
  constructor(vocabulary: Vocabulary, begin: () => Beginning) {
    super();
    this.#vocabulary = vocabulary;
    this.#result = this.#run(begin);
  }

  /** How far the stream is at this moment, or was at its end; undefined before its start. */
  get progress(): Snapshot | undefined {
    return this.#watch?.look(seconds()) ?? this.#last;
  }

  /**
   * Does what the signal does to the program: the stream ends where it stands, and is truncated. With
   * `keep`, and no client connected, it is the regular end of the stream. When the clients are done and
   * only the rest has to be emitted, that has half a second; a second call ends it at once.
   */
  stop(signal: EndSignal = "SIGTERM"): void {
    this.#stopSignal.raise(signal);
  }

  then<Value = Summary, Reason = never>(
    onFulfilled?: ((summary: Summary) => Value | PromiseLike<Value>) | null,
    onRejected?: ((reason: unknown) => Reason | PromiseLike<Reason>) | null,
  ): Promise<Value | Reason> {
    return this.#result.then(onFulfilled, onRejected);
  }

  catch<Reason = never>(
    onRejected?: ((reason: unknown) => Reason | PromiseLike<Reason>) | null,
  ): Promise<Summary | Reason> {
    return this.#result.catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<Summary> {
    return this.#result.finally(onFinally);
  }

  async #run(begin: () => Beginning): Promise<Summary> {
    // Lets the caller add its listeners first.
    await undefined;
    const beginning = begin();
    try {
      return await this.#attend(beginning);
    } catch (error) {
      if (!this.#opened()) releaseEndpoint(beginning.settings);
      throw error;
    }
  }

  async #attend({ settings, body }: Beginning): Promise<Summary> {
    requireRecentBun(Bun.version);
    const { signal, progressInterval, beforeStart } = settings;
    const abort = () => this.stop();
    if (signal?.aborted === true) abort();
    signal?.addEventListener("abort", abort);
    const vocabulary = this.#vocabulary;
    const say = (level: Message["level"]) => (words: Words) => {
      this.#emitSafely("message", { level, text: textOf(words, vocabulary) });
    };
    try {
      const { why, status, summary } = await body({
        stopSignal: this.#stopSignal,
        observer: {
          watch: (stream, kind, uri) => {
            this.#opened = () => stream.opened;
            beforeStart?.();
            this.#begin(new Watch(stream, kind, seconds()), uri, progressInterval);
          },
          end: () => this.#end(),
        },
        log: { info: say("info"), warn: say("warn"), verbose: say("verbose") },
        vocabulary,
      });
      if (why !== undefined) throw new TruncatedError(summary, status);
      return summary;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  #begin(watch: Watch, uri: string | undefined, interval: number): void {
    this.#watch = watch;
    this.#timer = setInterval(() => this.#tell(), interval);
    this.#emitSafely("listening", { uri });
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#tell();
    this.#last = this.progress;
    this.#watch = undefined;
  }

  #tell(): void {
    if (this.listenerCount("progress") === 0) return;
    const { progress } = this;
    if (progress !== undefined) this.#emitSafely("progress", progress);
  }

  /** Turns an exception of a listener into the program's uncaught exception, so that the stream goes on. */
  #emitSafely<Name extends keyof StreamingEvents>(
    name: Name,
    event: StreamingEvents[Name][0],
  ): void {
    try {
      this.emit(name, ...([event] as never));
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

function seconds(): number {
  return performance.now() / 1000;
}
