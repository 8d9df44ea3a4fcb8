/** Several streams behind one server: the object that `serve` and `run` return for them. */
import { EXIT, UserError } from "../errors.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { Snapshot } from "../progress/watch.ts";
import type { StreamContext } from "../server/settings.ts";
import type { StopSignal } from "../server/stop-signal.ts";
import type { StreamResult, Summary } from "../server/summary.ts";
import { releaseEndpoint, type ResolvedStream } from "./options.ts";
import { Started } from "./started.ts";
import { type Message, messageLog, Watched } from "./watched.ts";

/** The summary of one of several streams. */
export interface StreamSummary extends Summary {
  /** Its export name. */
  readonly export: string;
}

/** The events of several streams. */
export interface StreamsEvents {
  /**
   * Clients can connect. `uri` is that of the server, undefined for a socket that was passed; `streams` has
   * that of each stream.
   */
  listening: [
    {
      readonly uri: string | undefined;
      readonly streams: readonly { readonly export: string; readonly uri: string | undefined }[];
    },
  ];
  /** How far a stream is: every second or `progressInterval`, and once more at its end. */
  progress: [Snapshot & { readonly export: string }];
  /** `export` is undefined where a message is about the server. */
  message: [Message & { readonly export: string | undefined }];
  /** A stream has ended; the others may go on. */
  ended: [StreamSummary];
}

/** At least one of several streams is truncated. */
export class TruncatedStreamsError extends UserError {
  constructor(
    /** Of all streams, in the order of the options. */
    readonly summaries: readonly StreamSummary[],
    /** The status of the command that has failed, 128 plus a signal's number, or 4. */
    exitStatus: number,
  ) {
    const truncated = summaries.filter(({ complete }) => !complete);
    const reasons = truncated.map((summary) => `${summary.export}: ${summary.reason}`).join("; ");
    super(
      "ERR_TRUNCATED",
      `${truncated.length} of ${summaries.length} streams are truncated: ${reasons}`,
      exitStatus,
    );
  }
}

/** Streams that are about to begin. */
export interface StreamsBeginning {
  readonly settings: readonly Omit<ResolvedStream, "entrance">[];
  /** Runs them all. @param contexts in the order of the settings */
  readonly body: (contexts: readonly StreamContext[]) => Promise<readonly StreamResult[]>;
}

/**
 * Several streams that have been started. They are awaited for their summaries, which there are only when
 * all are complete: else it rejects with a {@link TruncatedStreamsError}, and with another {@link UserError}
 * where they could not begin.
 */
export class Streams extends Started<readonly StreamSummary[], StreamsEvents> {
  readonly #watched = new Map<string, Watched>();

  /**
   * @param vocabulary names options in messages
   * @param failFast the first stream that is truncated ends the others
   * @param begin resolves the options; what it throws is what the streams reject with
   */
  constructor(vocabulary: Vocabulary, failFast: boolean, begin: () => StreamsBeginning) {
    super((stopSignal) => this.#run(vocabulary, { failFast }, begin(), stopSignal));
  }

  /** How far the streams are at this moment, or were at their ends, by export name; none before the start. */
  get progress(): ReadonlyMap<string, Snapshot> {
    const found = [...this.#watched].map(([name, { progress }]) => [name, progress] as const);
    return new Map(found.filter((one): one is [string, Snapshot] => one[1] !== undefined));
  }

  async #run(
    vocabulary: Vocabulary,
    several: { readonly failFast: boolean },
    { settings, body }: StreamsBeginning,
    stopSignal: StopSignal,
  ): Promise<readonly StreamSummary[]> {
    const names = settings.map(({ exportName = "" }) => exportName);
    const found: { export: string; uri: string | undefined }[] = [];
    const serverLog = messageLog(vocabulary, (message) =>
      this.emitSafely("message", { ...message, export: undefined }),
    );
    const contexts = settings.map(({ progressInterval: interval }, i): StreamContext => {
      const name = names[i] as string;
      const watched = new Watched({
        interval,
        onListening: ({ uri, serverUri }) => {
          found.push({ export: name, uri });
          if (found.length < settings.length) return;
          this.emitSafely("listening", { uri: serverUri, streams: found });
        },
        onProgress: () =>
          this.listenerCount("progress") === 0
            ? undefined
            : (snapshot) => this.emitSafely("progress", { ...snapshot, export: name }),
      });
      this.#watched.set(name, watched);
      const log = messageLog(vocabulary, (message) =>
        this.emitSafely("message", { ...message, export: name }),
      );
      const onEnd = (result: StreamResult) => this.emitSafely("ended", summaryOf(name, result));
      const { observer } = watched;
      return { stopSignal, observer, log, serverLog, vocabulary, several, onEnd };
    });
    try {
      return await this.attended(settings[0]?.signal, async () => {
        const results = await body(contexts);
        const summaries = results.map((result, i) => summaryOf(names[i] as string, result));
        const status = statusOf(results);
        if (status !== EXIT.COMPLETE) throw new TruncatedStreamsError(summaries, status);
        return summaries;
      });
    } catch (error) {
      for (const [i, one] of settings.entries()) {
        if (this.#watched.get(names[i] as string)?.opened !== true) releaseEndpoint(one);
      }
      throw error;
    }
  }
}

function summaryOf(name: string, { summary }: StreamResult): StreamSummary {
  return { export: name, ...summary };
}

/** The status of a command or of a signal goes before that of truncated streams. */
function statusOf(results: readonly StreamResult[]): number {
  const failed = results.map(({ status }) => status).filter((status) => status !== EXIT.COMPLETE);
  return failed.find((status) => status !== EXIT.TRUNCATED) ?? failed[0] ?? EXIT.COMPLETE;
}
