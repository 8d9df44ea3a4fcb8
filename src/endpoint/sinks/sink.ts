/** Where a stream goes: the one interface that the stream thread has for all kinds of it. */
import type { IoVec } from "../../../ffi/memory.ts";

/**
 * The endpoint of a stream. What cannot be done now returns WOULD_BLOCK (or false), and `fd` tells
 * when to try again.
 *
 * @throws EndpointError from every method that moves bytes, when the sink has failed for good
 */
export interface Sink {
  /** For messages: what the user called it. */
  readonly name: string;
  /** To poll: POLLOUT when it takes more, POLLERR when it has failed. -1 until it is open. */
  readonly fd: number;
  /** Bytes that {@link splice} or {@link zeroes} has taken but that have not left the program. */
  readonly held: number;
  /** Tries to open. @returns false while there is nobody at the other end; then call again */
  open(): boolean;
  /**
   * Takes up to `length` bytes from a socket, without copying them if it can be helped; what a sink
   * cannot pass on in the same call it holds for {@link flush}. Only while nothing is held.
   *
   * @returns bytes taken, 0 when the socket's peer has finished, or WOULD_BLOCK, which does not say
   *   which of the two is not ready
   * @throws SyscallError when it is the socket that has failed
   */
  splice(socket: number, length: number): number;
  /** Writes from memory; only while nothing is held. @returns bytes accepted, or WOULD_BLOCK */
  writev(vector: IoVec): number;
  /** Takes up to `length` zeroes; only while nothing is held. @returns bytes taken, or WOULD_BLOCK */
  zeroes(length: number): number;
  /** Lets go of what is held. @returns true when nothing is left */
  flush(): boolean;
  /**
   * Bytes that were accepted but that the reader, as far as this kind of sink can know of it
   * (docs/sinks.md), has not taken yet.
   *
   * @throws EndpointError when it never will
   */
  unread(): number;
  /**
   * All is accepted and read, and nothing more comes: makes it last and ends the stream, for which the
   * reader sees end of file. Only then it is complete.
   *
   * @returns false while the reader may still tell that it has not got all; then call again
   * @throws EndpointError when what was accepted may be lost
   */
  complete(): boolean;
  /** The checksum, in hex, of all that was accepted; may be called once. */
  digest?(): string;
  /** Lets go of everything, in any state; of a stream that is not complete the reader sees end of file. */
  close(): void;
}
