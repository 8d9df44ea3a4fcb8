/** Where a stream comes from: the one interface that the stream thread has for all kinds of it. */

/**
 * The endpoint of a stream that is read. Its bytes are taken from {@link pipe}, by splice(2) or
 * read(2), so that they need not be copied.
 *
 * @throws EndpointError from every method, when the source has failed for good
 */
export interface Source {
  /** For messages: what the user called it. */
  readonly name: string;
  /** To poll: POLLIN or POLLHUP when {@link fill} has something new to say. -1 until it is open. */
  readonly fd: number;
  /** The reading end of a pipe in which the bytes stand; not to be written to, or polled. */
  readonly pipe: number;
  /** Tries to open. @returns false while there is nobody at the other end; then call again */
  open(): boolean;
  /**
   * Brings into the pipe what there is.
   *
   * @returns bytes in the pipe, at least; 0 at the end of the source, or WOULD_BLOCK
   */
  fill(): number;
  /** Lets go of it: a writer that is still there is told by EPIPE. */
  close(): void;
}
