/** The interface of all sinks. */
import type { IoVec } from "../../../ffi/memory.ts";

/**
 * The endpoint that a stream is written to. A method that cannot proceed returns WOULD_BLOCK or false;
 * poll `fd` before the next try.
 *
 * @throws EndpointError from every method that moves bytes, once the sink has failed
 */
export interface Sink {
  /** The user's text, for messages. */
  readonly name: string;
  /** For poll(2): POLLOUT when it takes more, POLLERR when it has failed. -1 until it is open. */
  readonly fd: number;
  /** Bytes that {@link splice} or {@link zeroes} has taken, but {@link flush} has not passed on yet. */
  readonly held: number;
  /** Tries to open. @returns false while there is no process at the other end; then call again */
  open(): boolean;
  /**
   * Takes up to `length` bytes from a socket, without copying them where possible. A sink that cannot
   * pass them on at once holds them for {@link flush}. Only while nothing is held.
   *
   * @returns bytes taken, 0 when the socket's peer has finished, or WOULD_BLOCK when either the socket
   *   or the sink is not ready
   * @throws SyscallError when the socket has failed
   */
  splice(socket: number, length: number): number;
  /**
   * The same from a file, at its position. Only while nothing is held.
   *
   * @returns bytes taken, 0 at the end of the file, or WOULD_BLOCK when the sink is not ready
   * @throws SyscallError when the file has failed
   */
  spliceFile(fd: number, length: number): number;
  /** Writes from memory; only while nothing is held. @returns bytes accepted, or WOULD_BLOCK */
  writev(vector: IoVec): number;
  /** Takes up to `length` zeroes; only while nothing is held. @returns bytes taken, or WOULD_BLOCK */
  zeroes(length: number): number;
  /** Passes on what is held. @returns true when nothing is held any more */
  flush(): boolean;
  /**
   * Bytes that were accepted, but that the reader has not taken yet, as far as this kind of sink can
   * know (docs/sinks.md).
   *
   * @throws EndpointError when the reader never will
   */
  unread(): number;
  /**
   * Syncs the data and ends the stream, so that the reader sees end of file. Call it when all data is
   * accepted and read. The stream is complete when this returns true.
   *
   * @returns false while the reader may still report that it has not read all; then call again
   * @throws EndpointError when accepted data may be lost
   */
  complete(): boolean;
  /** The checksum, in hex, of all accepted data; may be called once. */
  digest?(): string;
  /** Closes all descriptors, in any state. The reader of an incomplete stream sees end of file. */
  close(): void;
}
