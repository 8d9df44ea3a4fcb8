/** The object that `serve` and `run` return. */
import { UserError } from "../errors.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { Snapshot } from "../progress/watch.ts";
import type { StreamContext } from "../server/settings.ts";
import type { StopSignal } from "../server/stop-signal.ts";
import type { StreamResult, Summary } from "../server/summary.ts";
import { releaseEndpoint, type ResolvedStream } from "./options.ts";
import { Started } from "./started.ts";
import { type Message, messageLog, Watched } from "./watched.ts";

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
export class Streaming extends Started<Summary, StreamingEvents> {
  #watched: Watched | undefined;

  /**
   * @param vocabulary names options in messages
   * @param begin resolves the options; what it throws is what the stream rejects with
   */
  constructor(vocabulary: Vocabulary, begin: () => Beginning) {
    super((stopSignal) => this.#run(vocabulary, begin(), stopSignal));
  }

  /** How far the stream is at this moment, or was at its end; undefined before its start. */
  get progress(): Snapshot | undefined {
    return this.#watched?.progress;
  }

  async #run(
    vocabulary: Vocabulary,
    { settings, body }: Beginning,
    stopSignal: StopSignal,
  ): Promise<Summary> {
    const watched = new Watched({
      interval: settings.progressInterval,
      onListening: ({ uri }) => this.emitSafely("listening", { uri }),
      onProgress: () =>
        this.listenerCount("progress") === 0
          ? undefined
          : (snapshot) => this.emitSafely("progress", snapshot),
    });
    this.#watched = watched;
    const log = messageLog(vocabulary, (message) => this.emitSafely("message", message));
    try {
      return await this.attended(settings.signal, async () => {
        const context = { stopSignal, observer: watched.observer, log, vocabulary };
        const { why, status, summary } = await body(context);
        if (why !== undefined) throw new TruncatedError(summary, status);
        return summary;
      });
    } catch (error) {
      if (!watched.opened) releaseEndpoint(settings);
      throw error;
    }
  }
}
