/** What the engine and the connections know of a stream, whichever way it goes. */
import type { EndpointError } from "../endpoint/error.ts";
import type { Channel, Step } from "./channel.ts";
import type { Failure } from "./failure.ts";
import type { Ended, ShortStream } from "./messages.ts";

/** A stream, from its endpoint to where the connections take part in it. */
export interface Flow {
  /** Set when the stream is broken, for good. */
  readonly failure: Failure | undefined;
  /** The endpoint to poll; -1 when there is none to hear of. */
  readonly fd: number;
  /** False from the moment the endpoint would have blocked until poll(2) says that it does not. */
  readonly ready: boolean;
  /** True while the endpoint is open. */
  readonly isOpen: boolean;
  /** True when the stream was written, or zeroed, up to its size, or read up to it. */
  readonly full: boolean;
  /** Where the stream stands, with what is noted or held: another text when it has moved. */
  readonly mark: string;
  /** Tries to open the endpoint. @throws EndpointError */
  open(): boolean;
  /** What to poll the endpoint for; -1 is not at all. @param wanted something waits for it */
  events(wanted: boolean): number;
  /** What poll(2) has said of the endpoint. @param finishing no more is expected of clients */
  reported(revents: number, finishing: boolean): void;
  /** The endpoint has failed. */
  failed(error: EndpointError): void;
  /** Bytes of replies that a connection may collect before they have to be sent. */
  readonly repliesCapacity: number;
  /** Clients whose connection is lost may come back and go on. */
  readonly clientsReturn: boolean;
  /** The part that a new connection takes in it. */
  takePart(channel: Channel): Side;
  /** No client comes back any more: what is missing now breaks the stream. */
  endReconnect(): void;
  /** The clients are gone; from now on {@link finish} is called. */
  beginFinish(short: ShortStream): void;
  /** Goes on towards the end. @returns true when there. @throws EndpointError */
  finish(): boolean;
  /** Milliseconds after which {@link finish} has to be called again, if nothing else happens. */
  readonly finishInterval: number;
  /** Something that the endpoint's process has come to is known. */
  settled(problem: string | undefined): void;
  /** Lets go of the endpoint. @returns what there is to tell about the stream */
  close(): Ended;
}

/** One connection's part in a stream. */
export interface Side {
  /** The client moved the stream, and did not just ask. */
  readonly streamed: boolean;
  /** True while bytes of the input buffer are referred to, or wanted where they are. */
  readonly holdsInput: boolean;
  /** True when no other connection is, or goes first, in the middle of what moves the stream. */
  readonly hasTurn: boolean;
  /** True when {@link step} has something to do before the next request. */
  readonly busy: boolean;
  /** True when the client has closed its side, and what is under way cannot be completed. */
  readonly hopeless: boolean;
  /** One step of what is under way; only while busy, and with room for a reply. */
  step(): Step;
  /**
   * Serves the request whose header has just been decoded, and consumes the header once it can be
   * taken on.
   *
   * @returns false when there is something to wait for
   */
  serve(): boolean;
  /** The request whose header has just been decoded is refused without having been served. */
  refused(error: number): void;
  /** Brings out what is under way, and answers for it. @returns true when nothing of it is left */
  settle(): boolean;
  /** The client is gone. @returns true when that was in the middle of a request */
  lose(): boolean;
  /** The connection is lost, and no other one has taken its place. */
  clientLost(): void;
  /** The connection has ended, one way or another. */
  leave(): void;
}
