/** What the engine and the connections know of a stream, whichever way it goes. */
import type { EndpointError } from "../endpoint/error.ts";
import type { Channel } from "./channel.ts";
import type { Failure } from "../messages/notice.ts";
import type { Ended, ShortStream } from "./messages.ts";
import type { Step } from "./step.ts";

/** A stream, with its endpoint and what all of its connections share. */
export interface Stream {
  /** Set when the stream is broken, for good. */
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
  /** Where the stream stands, with what is pending or held: another text when it has moved. */
  readonly position: string;
  /** Bytes of replies that a connection may collect before they have to be sent. */
  readonly repliesCapacity: number;
  /** Clients whose connection is lost may come back and go on. */
  readonly clientsReturn: boolean;
  /** Serves the requests of a new connection. */
  createHandler(channel: Channel): RequestHandler;
  /** Tries to open the endpoint. @throws EndpointError */
  open(): boolean;
  /** What to poll the endpoint for; -1 is not at all. @param wanted something waits for it */
  events(wanted: boolean): number;
  /** What poll(2) has said of the endpoint. @param finishing no more is expected of clients */
  reported(revents: number, finishing: boolean): void;
  /** The endpoint has failed. */
  endpointFailed(error: EndpointError): void;
  /** The process of the source has ended. @param problem what is wrong with that; undefined is nothing */
  processExited(problem: string | undefined): void;
  /** No client comes back any more: what is missing now breaks the stream. */
  endReconnect(): void;
  /** The clients are gone. {@link complete} is called from now on. */
  finish(short: ShortStream): void;
  /** Completes the stream as far as that goes now. @returns true when it is. @throws EndpointError */
  complete(): boolean;
  /** Milliseconds after which {@link complete} has to be called again, if nothing else happens. */
  readonly completeInterval: number;
  /** Closes the endpoint. @returns what there is to tell about the stream */
  close(): Ended;
}

/** Serves the requests of one connection. */
export interface RequestHandler {
  /** The client moved the stream, and did not just ask. */
  readonly streamed: boolean;
  /** True while the input buffer has to stay as it is. */
  readonly holdsInput: boolean;
  /** True when no request of another connection comes first. */
  readonly hasTurn: boolean;
  /** True when {@link step} has something to do before the next request. */
  readonly busy: boolean;
  /** True when the client has closed its side, and what is under way cannot be completed. */
  readonly cannotComplete: boolean;
  /** One step of what is under way; only while busy, and with room for a reply. */
  step(): Step;
  /** Serves the request whose header was just decoded, and consumes the header when its turn has come. */
  serve(): Step;
  /** The request whose header was just decoded is refused without having been served. */
  refused(error: number): void;
  /** Brings out what is queued, and replies to it. @returns MORE when nothing of it is left */
  flush(): Step;
  /** The connection is over: drops what is under way. @returns true in the middle of a request */
  abort(): boolean;
  /** The client is lost, and no other connection has taken its place: it may come back. */
  clientLost(): void;
  /** The connection is closed. */
  closed(): void;
}
