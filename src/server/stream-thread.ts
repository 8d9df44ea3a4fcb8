/** The main thread's side of the stream thread. */
import { WakeUp } from "../../ffi/poll.ts";
import { Counters } from "../stream/counters.ts";
import type {
  Command,
  StreamEvent,
  StreamPlan,
  StreamStatus,
  StreamThreadData,
} from "../stream/messages.ts";

/** Milliseconds for the thread to answer a question; a client may keep it busy. */
const ANSWER_LIMIT = 200;
/** The same where a new client waits for the answer. */
const EVICT_LIMIT = 500;
/** Milliseconds in which the thread has to end. */
const JOIN_LIMIT = 500;

export interface StreamThreadOptions {
  /**
   * The worker's file. A compiled binary finds it only by a URL that was built in the folder of the entry
   * points.
   */
  readonly workerUrl: URL;
  readonly plan: StreamPlan;
  /** The thread is left to the end of the process. */
  readonly stays: boolean;
  readonly onEvent: (event: StreamEvent) => void;
  /** Called when the thread has died of a bug in the program. */
  readonly onCrash: (error: Error) => void;
}

/** Questions, and the events that answer them. */
const ANSWERS = { "get-status": "status", sync: "synced", "evict-idle": "evicted" } as const;
type Question = keyof typeof ANSWERS;
type Answer<Q extends Question = Question> = StreamEvent & { type: (typeof ANSWERS)[Q] };

/** Starts the thread, sends it commands, and passes on its events. */
export class StreamThread {
  readonly counters = new Counters();
  readonly #wake = new WakeUp();
  readonly #worker: Worker;
  readonly #stays: boolean;
  /** Resolved when the thread uses nothing any more. */
  readonly #done = Promise.withResolvers<void>();
  #joined = false;
  /**
   * By the type of the answer, the functions that take one, in the order of the questions. One that has not
   * waited long enough stays: the next question must not get its answer, which would be too old.
   */
  readonly #waiting = new Map<string, ((answer: Answer | undefined) => void)[]>(
    Object.values(ANSWERS).map((type) => [type, []]),
  );
  #ended = false;
  #begun = false;

  constructor(options: StreamThreadOptions) {
    this.#stays = options.stays;
    const data: StreamThreadData = {
      ...options.plan,
      stays: options.stays,
      wakeFd: this.#wake.fd,
      counters: this.counters.buffer,
    };
    const crash = (error: Error) => {
      options.onCrash(error);
      this.#end();
    };
    try {
      this.#worker = new Worker(options.workerUrl);
      this.#worker.postMessage(data);
    } catch (error) {
      this.#wake.close();
      throw error;
    }
    this.#worker.addEventListener("message", ({ data: event }: MessageEvent<StreamEvent>) => {
      this.#begun = true;
      if (event.type === "crashed") return crash(event.error);
      options.onEvent(event);
      if (event.type === "ended") this.#end();
      else this.#waiting.get(event.type)?.shift()?.(event as Answer);
    });
    this.#worker.addEventListener("error", ({ message }) => crash(new Error(reason(message))));
    this.#worker.addEventListener("close", () => this.#done.resolve());
  }

  /** False as long as nothing has come from the thread: one that has died has not taken any descriptor. */
  get begun(): boolean {
    return this.#begun;
  }

  /** Posts a command and wakes the thread, which may sleep in poll(2). */
  send(command: Command): void {
    // The exit of a source's process may come after the end of the thread.
    if (this.#joined) return;
    this.#worker.postMessage(command);
    this.#wake.signal();
  }

  /** The state of the stream and its clients; undefined if the thread does not answer in time. */
  status(): Promise<StreamStatus | undefined> {
    return this.#ask("get-status", ANSWER_LIMIT);
  }

  /** Waits a short time until the events of everything that has happened up to now have come. */
  async sync(): Promise<void> {
    await this.#ask("sync", ANSWER_LIMIT);
  }

  /** Ends a connection that has been idle for long. @returns false if there was none, as far as is known */
  async evictIdle(): Promise<boolean> {
    const answer = await this.#ask("evict-idle", EVICT_LIMIT);
    return answer?.found === true;
  }

  /** @param limit milliseconds: a thread that is stuck in the kernel is not waited for */
  async #ask<Q extends Question>(question: Q, limit: number): Promise<Answer<Q> | undefined> {
    if (this.#ended) return undefined;
    const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
    this.#waiting.get(ANSWERS[question])?.push(resolve);
    const timer = setTimeout(resolve, limit);
    this.send({ type: question });
    const answer = await promise;
    clearTimeout(timer);
    return answer as Answer<Q> | undefined;
  }

  /** No more events come. */
  #end(): void {
    this.#ended = true;
    if (this.#stays) this.#done.resolve();
    for (const waiting of this.#waiting.values()) {
      for (const resolve of waiting.splice(0)) resolve(undefined);
    }
  }

  /**
   * Waits until the thread has ended, or does nothing more if it stays, after an abort, an "ended" event or
   * a crash. A thread that is stuck in the kernel, such as on a disk that does not answer, is left to the
   * end of the process. It may return and read its commands, so its descriptors stay open until it is gone:
   * their numbers must not be used again.
   */
  async join(): Promise<void> {
    const gone = this.#done.promise.then(() => {
      this.#joined = true;
      this.#wake.close();
    });
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, JOIN_LIMIT);
    await Promise.race([gone, late.promise]);
    clearTimeout(timer);
    if (this.#joined) return;
    // It does not keep the program alive.
    this.#worker.unref();
    gone.catch(() => {});
  }
}

/** What is wrong, of a text in which Bun also shows the source code. */
function reason(message: string): string {
  const lines = message.trim().split("\n");
  const line = lines.find((text) => /^\w+: /.test(text)) ?? (lines[0] as string);
  return line.replace(/^error: /, "");
}
