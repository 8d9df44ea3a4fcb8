/** The interface of a stream, in either direction, to the engine and the connections. */
import type { EndpointError } from "../endpoint/error.ts";
import type { EndpointHandle } from "../endpoint/spec.ts";
import type { Channel } from "./channel.ts";
import type { Failure } from "../messages/notice.ts";
import type { Ended, ShortStream } from "./messages.ts";
import type { Offset } from "../protocol/offset.ts";
import type { Step } from "./step.ts";

/** A stream with its endpoint, shared by all connections. */
export interface Stream {
  /** Set once the stream is broken. */
  readonly failure: Failure | undefined;
  /** The endpoint to poll; -1 when there is nothing to poll. */
  readonly fd: number;
  /**
   * False from the moment the endpoint would have blocked until poll(2) says that it does not, or
   * until it is lost and there is nothing left to wait for.
   */
  readonly ready: boolean;
  /** True while the endpoint is open. */
  readonly isOpen: boolean;
  /** True when the stream was written, or zeroed, up to its size, or read up to it. */
  readonly full: boolean;
  /** The stream's position, with what is pending or held, as a text that changes when it moves. */
  readonly position: string;
  /** The length in bytes if no more comes; only of a stream that is held. */
  readonly end?: Offset | undefined;
  /** Bytes of replies that a connection may collect before they have to be sent. */
  readonly repliesCapacity: number;
  /** Clients whose connection is lost may come back and go on. */
  readonly clientsReturn: boolean;
  /** Serves the requests of a new connection. */
  createHandler(channel: Channel): RequestHandler;
  /** The sink of a stream that was created without one. */
  takeSink?(endpoint: EndpointHandle): void;
  /** Tries to open the endpoint. @throws EndpointError */
  open(): boolean;
  /** The events to poll the endpoint for; -1 is not at all. @param wanted something waits for it */
  events(wanted: boolean): number;
  /** Takes the `revents` of the endpoint. @param finishing the clients are gone */
  reported(revents: number, finishing: boolean): void;
  /** The endpoint has failed. */
  endpointFailed(error: EndpointError): void;
  /** Nothing can be done for now, and the thread is about to sleep. */
  beforeSleep?(): void;
  /** The process of the source has ended. @param problem undefined if it has succeeded */
  processExited(problem: string | undefined): void;
  /** No client can come back any more: missing data breaks the stream now. */
  endReconnect(): void;
  /** The clients are gone. {@link complete} is called from now on. @param asks waits for {@link confirmEnd} */
  finish(short: ShortStream, asks: boolean): void;
  /** From now on, the reader of a stream that was held may see its end. */
  confirmEnd?(): void;
  /** Completes the stream as far as possible now. @returns true when it is complete. @throws EndpointError */
  complete(): boolean;
  /** Milliseconds after which {@link complete} has to be called again, if nothing else happens. */
  readonly completeInterval: number;
  /** Closes the endpoint. @returns facts for the summary */
  close(): Ended;
}

/** Serves the requests of one connection. */
export interface RequestHandler {
  /** True when the client moved the stream, and did not only query it. */
  readonly streamed: boolean;
  /** True while the input buffer has to stay as it is. */
  readonly holdsInput: boolean;
  /**
   * True in the middle of a WRITE of which later connections have sent everything: its client has come back
   * on one of those.
   */
  readonly isRepeated: boolean;
  /** True when no request of another connection comes first. */
  readonly hasTurn: boolean;
  /** True when {@link step} has something to do before the next request. */
  readonly busy: boolean;
  /** True when the client has closed its side, and the request under way cannot be completed. */
  readonly cannotComplete: boolean;
  /** One step of the request under way; only while busy, and with room for a reply. */
  step(): Step;
  /** Serves the request whose header was just decoded, and consumes the header when its turn has come. */
  serve(): Step;
  /** The request whose header was just decoded is refused without having been served. */
  refused(error: number): void;
  /** Emits what is queued, and replies to it. @returns MORE when the queue is empty */
  flush(): Step;
  /** The connection is over: drops the request under way. @returns true if there was one */
  abort(): boolean;
  /** The client is lost, no other connection has taken its place, and it may come back. */
  clientLost(): void;
  closed(): void;
}
