/** The settings of a stream: the user's options with all defaults, resolved once. */
import type { EndpointSpec } from "../endpoint/spec.ts";
import type { Log } from "../log.ts";
import type { Notice, Words } from "../messages/notice.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { Entrance } from "../net/address.ts";
import type { ConnectionSettings } from "../net/connection-manager.ts";
import type { FlowSettings, ShortStream } from "../stream/messages.ts";
import type { StreamResult } from "./summary.ts";
import type { Observer } from "./observer.ts";
import type { StopSignal } from "./stop-signal.ts";

/**
 * `library/options.ts` makes them; the rooms below do not check, parse or default an option again. All times
 * are in milliseconds, all sizes in bytes.
 */
export interface StreamSettings extends FlowSettings, ConnectionSettings {
  readonly spec: EndpointSpec;
  /** The folder of the spool; undefined is none. */
  readonly spool: string | undefined;
  /** What needs a known length, for the message to the user; undefined is nothing. */
  readonly needsSize: Words | undefined;
  readonly entrance: Entrance;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  readonly short: ShortStream;
  /** How long to wait for the other end of a FIFO; undefined is no limit. */
  readonly openTimeout: number | undefined;
  /** Where to write the process id once clients can connect. */
  readonly pidFile: string | undefined;
  /** Called right before clients can connect; what it throws keeps the stream from beginning. */
  readonly beforeStart: (() => void) | undefined;
  /** The stream thread's file. */
  readonly workerUrl: URL;
  /** The process exits after the stream, and with it the stream thread, whose own end takes 3 ms. */
  readonly exits?: boolean;
}

/** The endpoint that `pipe=` or `read=` names. */
export type EndpointChoice = Pick<StreamSettings, "direction" | "spec">;

/** What the caller gives a stream beside the settings. */
export interface StreamContext {
  readonly observer: Observer;
  readonly stopSignal: StopSignal;
  readonly log: Log;
  /** For what concerns the server; `log` where there is one stream. */
  readonly serverLog?: Log;
  /** Names options in the summary. */
  readonly vocabulary: Vocabulary;
  /** Undefined for the only stream of a server. */
  readonly several?: {
    /** The first stream that is truncated ends the others. */
    readonly failFast: boolean;
  };
  /** Called when this one of several streams has ended, and is cleaned up. */
  readonly onEnd?: (result: StreamResult) => void;
}

export interface HostOptions extends StreamSettings, StreamContext {
  /** Takes the descriptor of the spool, which stays the stream's, before clients can come. */
  readonly onSpool?: ((fd: number) => void) | undefined;
  /** A warning about a stream that begins with these bytes. */
  readonly doubts?: (start: Uint8Array) => Notice | undefined;
}
