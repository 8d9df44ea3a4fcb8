/** What `serve` and `run` return: something that runs, with events, and is awaited for its value. */
import { EventEmitter } from "node:events";
import { requireRecentBun } from "../runtime.ts";
import type { EndSignal } from "../process/signals.ts";
import { StopSignal } from "../server/stop-signal.ts";

/** A promise with events. It begins in the next turn of the event loop, so that listeners can be added. */
export abstract class Started<Value, Events extends Record<keyof Events, readonly [unknown]>>
  extends EventEmitter<{ [Name in keyof Events]: [Events[Name][0]] }>
  implements Promise<Value>
{
  readonly [Symbol.toStringTag] = "Streaming";
  readonly #stopSignal = new StopSignal();
  readonly #result: Promise<Value>;

  /** @param work runs all of it, and ends when the signal is raised */
  constructor(work: (stopSignal: StopSignal) => Promise<Value>) {
    super();
    this.#result = (async () => {
      await undefined;
      return await work(this.#stopSignal);
    })();
  }

  /**
   * Does what the signal does to the program: the stream ends where it stands, and is truncated. With
   * `keep`, and no client connected, it is the regular end of the stream. When the clients are done and
   * only the rest has to be emitted, that has half a second; a second call ends it at once.
   */
  stop(signal: EndSignal = "SIGTERM"): void {
    this.#stopSignal.raise(signal);
  }

  then<Result = Value, Reason = never>(
    onFulfilled?: ((value: Value) => Result | PromiseLike<Result>) | null,
    onRejected?: ((reason: unknown) => Reason | PromiseLike<Reason>) | null,
  ): Promise<Result | Reason> {
    return this.#result.then(onFulfilled, onRejected);
  }

  catch<Reason = never>(
    onRejected?: ((reason: unknown) => Reason | PromiseLike<Reason>) | null,
  ): Promise<Value | Reason> {
    return this.#result.catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<Value> {
    return this.#result.finally(onFinally);
  }

  /** Runs `work`, and stops it when `signal` is aborted. */
  protected async attended<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    requireRecentBun(Bun.version);
    const abort = () => this.stop();
    if (signal?.aborted === true) abort();
    signal?.addEventListener("abort", abort);
    try {
      return await work();
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Turns an exception of a listener into the program's uncaught exception, so that the stream goes on. */
  protected emitSafely<Name extends keyof Events>(name: Name, event: Events[Name][0]): void {
    try {
      this.emit(name as never, ...([event] as never));
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
