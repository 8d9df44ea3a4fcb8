/** One end of a pipe as an endpoint: the common part of PipeSink and PipeSource. */
import { fstatSync } from "node:fs";
import { ERRNO } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close } from "../../ffi/fd.ts";
import { growPipe } from "../../ffi/pipe.ts";
import { EndpointError, endpointCall } from "./error.ts";
import { OwnedDescriptor } from "./owned-descriptor.ts";
import { reopenPipe } from "./shared-descriptor.ts";

export abstract class PipeEnd extends OwnedDescriptor {
  readonly #access: number;

  /** @param access O_RDONLY or O_WRONLY @param fd -1 where a subclass has its own {@link open} */
  constructor(name: string, access: number, fd: number) {
    super(name, fd);
    this.#access = access;
  }

  open(): boolean {
    this.opened(endpointCall(() => reopenPipe(this.unopened, this.#access)));
    return true;
  }

  /** Takes over a non-blocking descriptor of the pipe. */
  protected override opened(fd: number): void {
    super.opened(fd);
    endpointCall(() => growPipe(fd));
  }
}

/** Closes a descriptor that is no FIFO. @throws EndpointError when the path has been replaced since the start */
export function requireFifo(fd: number, path: string): void {
  if (fstatSync(fd).isFIFO()) return;
  close(fd);
  throw new EndpointError(new SyscallError("open", ERRNO.EINVAL, path));
}
