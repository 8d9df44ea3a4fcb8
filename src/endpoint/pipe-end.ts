/** One end of a pipe as an endpoint: the common part of PipeSink and PipeSource. */
import { close, closeWritten } from "../../ffi/fd.ts";
import { growPipe } from "../../ffi/pipe.ts";
import { endpointCall } from "./error.ts";
import { reopenPipe } from "./shared-descriptor.ts";

/** Owns the descriptor that it is created with. */
export abstract class PipeEnd {
  readonly #access: number;
  #fd = -1;
  /** The descriptor that {@link open} reopens; -1 afterwards. */
  #unopened: number;

  /** @param access O_RDONLY or O_WRONLY @param fd -1 where a subclass has its own {@link open} */
  constructor(
    readonly name: string,
    access: number,
    fd: number,
  ) {
    this.#access = access;
    this.#unopened = fd;
  }

  get fd(): number {
    return this.#fd;
  }

  open(): boolean {
    const fd = endpointCall(() => reopenPipe(this.#unopened, this.#access));
    this.#unopened = -1;
    this.opened(fd);
    return true;
  }

  /** Takes over a non-blocking descriptor of the pipe. */
  protected opened(fd: number): void {
    this.#fd = fd;
    endpointCall(() => growPipe(fd));
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
