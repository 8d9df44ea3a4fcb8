/** The interface of all sources. */

/**
 * The endpoint that a stream is read from. Its bytes are taken out of {@link pipe} by splice(2) or
 * read(2).
 *
 * @throws EndpointError from every method, once the source has failed
 */
export interface Source {
  /** The user's text, for messages. */
  readonly name: string;
  /** For poll(2): POLLIN or POLLHUP when {@link fill} has a new result. -1 until it is open. */
  readonly fd: number;
  /** The reading end of the pipe with the bytes; must not be polled. */
  readonly pipe: number;
  /** Tries to open. @returns false while there is no process at the other end; then call again */
  open(): boolean;
  /**
   * Moves available bytes into the pipe.
   *
   * @returns bytes in the pipe, at least; 0 at the end of the source, or WOULD_BLOCK
   */
  fill(): number;
  /** Closes all descriptors: a writer that is still there gets EPIPE. */
  close(): void;
}
