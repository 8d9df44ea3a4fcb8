/** The common part of all sinks and sources. */
import { close, closeWritten } from "../../ffi/fd.ts";
import { endpointCall } from "./error.ts";

/** Owns the descriptor that it is created with, and the one that it opens. */
export abstract class OwnedDescriptor {
  #fd = -1;
  #unopened: number;

  /** @param fd -1 where a subclass opens a path */
  constructor(
    readonly name: string,
    fd: number,
  ) {
    this.#unopened = fd;
  }

  /** -1 until it is open. */
  get fd(): number {
    return this.#fd;
  }

  /** The descriptor that it was created with; -1 when it is open. */
  protected get unopened(): number {
    return this.#unopened;
  }

  /** Takes over the open descriptor, in place of {@link unopened}. */
  protected opened(fd: number): void {
    this.#fd = fd;
    this.#unopened = -1;
  }

  /** Closes a sink at the end of a complete stream. @throws EndpointError when data may be lost */
  protected end(): void {
    const fd = this.#fd;
    this.#fd = -1;
    endpointCall(() => closeWritten(fd));
  }

  close(): void {
    for (const fd of [this.#fd, this.#unopened]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#unopened = -1;
  }
}
