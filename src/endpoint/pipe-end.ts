/** One end of a pipe as an endpoint: what sinks and sources share that need no detour. */
import { close, closeWritten } from "../../ffi/fd.ts";
import { growPipe } from "../../ffi/pipe.ts";
import { endpointCall } from "./error.ts";
import { reopenPipe } from "./shared-descriptor.ts";

/** A pipe that somebody else has opened, by its descriptor, which this object then owns. */
export abstract class PipeEnd {
  readonly #access: number;
  #fd = -1;
  #given: number;

  /** @param access O_RDONLY or O_WRONLY @param given -1 where {@link open} is another one */
  constructor(
    readonly name: string,
    access: number,
    given: number,
  ) {
    this.#access = access;
    this.#given = given;
  }

  get fd(): number {
    return this.#fd;
  }

  open(): boolean {
    const fd = endpointCall(() => reopenPipe(this.#given, this.#access));
    this.#given = -1;
    this.opened(fd);
    return true;
  }

  /** Takes a non-blocking descriptor of the pipe. */
  protected opened(fd: number): void {
    this.#fd = fd;
    endpointCall(() => growPipe(fd));
  }

  /** Ends what has been written. @throws EndpointError */
  protected end(): void {
    const fd = this.#fd;
    this.#fd = -1;
    endpointCall(() => closeWritten(fd));
  }

  close(): void {
    for (const fd of [this.#fd, this.#given]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#given = -1;
  }
}
