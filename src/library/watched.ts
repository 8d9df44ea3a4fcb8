/** Watches one stream for those who started it. */
import type { Words } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import { type Snapshot, Watch } from "../progress/watch.ts";
import type { Found, Observer } from "../server/observer.ts";
import type { Log } from "../log.ts";

/** Something to tell the user. */
export interface Message {
  /** `warn`: something is wrong, but the stream goes on; `verbose`: helps to find a fault. */
  readonly level: "info" | "warn" | "verbose";
  /** One line. */
  readonly text: string;
}

/** A log that makes messages of what it gets. */
export function messageLog(vocabulary: Vocabulary, tell: (message: Message) => void): Log {
  const say = (level: Message["level"]) => (words: Words) => {
    tell({ level, text: textOf(words, vocabulary) });
  };
  return { info: say("info"), warn: say("warn"), verbose: say("verbose") };
}

export interface WatchedOptions {
  /** Milliseconds between two calls of `onProgress`. */
  readonly interval: number;
  readonly onListening: (found: Found) => void;
  /** Not called, and nothing computed, where nobody listens. */
  readonly onProgress: () => ((snapshot: Snapshot) => void) | undefined;
}

/** The progress of one stream. */
export class Watched {
  readonly observer: Observer;
  readonly #options: WatchedOptions;
  #watch: Watch | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #last: Snapshot | undefined;
  #opened = () => false;

  constructor(options: WatchedOptions) {
    this.#options = options;
    this.observer = {
      watch: (stream, found) => {
        this.#opened = () => stream.opened;
        this.#watch = new Watch(stream, seconds());
        this.#timer = setInterval(() => this.#tell(), options.interval);
        options.onListening(found);
      },
      end: () => {
        clearInterval(this.#timer);
        this.#tell();
        this.#last = this.progress;
        this.#watch = undefined;
      },
    };
  }

  /** True once the sink or source is open. */
  get opened(): boolean {
    return this.#opened();
  }

  /** How far the stream is at this moment, or was at its end; undefined before its start. */
  get progress(): Snapshot | undefined {
    return this.#watch?.look(seconds()) ?? this.#last;
  }

  #tell(): void {
    const tell = this.#options.onProgress();
    const { progress } = this;
    if (tell !== undefined && progress !== undefined) tell(progress);
  }
}

function seconds(): number {
  return performance.now() / 1000;
}
