/** What a stream is to be: the user's options with every default in its place, resolved once. */
import type { Endpoint } from "../endpoint/opening/endpoint.ts";
import type { EndpointSpec } from "../endpoint/spec.ts";
import type { Log } from "../log.ts";
import type { Notice, Words } from "../messages/notice.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { Entrance } from "../net/address.ts";
import type { ConnectionSettings } from "../net/connection-manager.ts";
import type { FlowSettings, ShortStream, StreamPlan } from "../stream/messages.ts";
import type { Observer } from "./observer.ts";
import type { StopSignal } from "./stop-signal.ts";

/**
 * `library/resolve.ts` makes it. What is below takes it, or the part that it needs, and neither
 * defaults, checks nor parses an option again. All times are in milliseconds, all sizes in bytes.
 */
export interface StreamSettings extends FlowSettings, ConnectionSettings {
  /** Where the stream goes, or comes from. */
  readonly spec: EndpointSpec;
  /** What cannot do without a known length, for the message to the user; undefined is nothing. */
  readonly needsSize: Words | undefined;
  readonly entrance: Entrance;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  /** What a stream is that ends below `size`. */
  readonly short: ShortStream;
  /** How long to wait for the other end of a FIFO; undefined is as long as it takes. */
  readonly openTimeout: number | undefined;
  /** Where to write the process id once clients can connect. */
  readonly pidFile: string | undefined;
  /** The stream thread's file. */
  readonly workerUrl: URL;
}

/** What `pipe=` or `read=` names, and which of the two it is. */
export type EndpointChoice = Pick<StreamSettings, "direction" | "spec">;

/** Who runs a stream, as the stream has it. */
export interface StreamContext {
  readonly observer: Observer;
  readonly stopSignal: StopSignal;
  readonly log: Log;
  /** In whose words the summary is. */
  readonly vocabulary: Vocabulary;
}

export interface HostOptions extends StreamSettings, StreamContext {
  /** What is likely wrong with a stream that begins with these bytes: a warning. */
  readonly doubts?: (start: Uint8Array) => Notice | undefined;
}

/** The part that crosses to the stream thread, once the endpoint is open and may have told the size. */
export function planOf(
  settings: FlowSettings,
  { handle, hasExitStatus }: Endpoint,
  size: bigint | undefined,
): StreamPlan {
  const { direction, window, held, reconnect, checksum } = settings;
  const { idleTimeout, pad, exact, dryRun = false } = settings;
  const flow = { direction, window, held, reconnect, checksum, idleTimeout, pad, exact, dryRun };
  return { ...flow, size, endpoint: handle, awaitsExit: hasExitStatus };
}
