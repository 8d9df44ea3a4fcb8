/** The reading end of a pipe as the source: the fast one, since splice(2) needs no detour. */
import { O_RDONLY } from "../../../ffi/constants.ts";
import { bytesReadable, close } from "../../../ffi/fd.ts";
import { growPipe } from "../../../ffi/pipe.ts";
import { guarded } from "../guarded.ts";
import { reopenPipe } from "../reopen.ts";
import { Probe } from "./probe.ts";
import type { Source } from "./source.ts";

/** A pipe that somebody else has opened, by its descriptor, which this object then owns. */
export class PipeSource implements Source {
  readonly #probe = new Probe();
  #fd = -1;
  #given: number;

  constructor(
    readonly name: string,
    given = -1,
  ) {
    this.#given = given;
  }

  get fd(): number {
    return this.#fd;
  }

  get pipe(): number {
    return this.#fd;
  }

  open(): boolean {
    const fd = guarded(() => reopenPipe(this.#given, O_RDONLY));
    this.#given = -1;
    this.opened(fd);
    return true;
  }

  /** Takes a non-blocking descriptor of the pipe. */
  protected opened(fd: number): void {
    this.#fd = fd;
    growPipe(fd);
  }

  fill(): number {
    return guarded(() => bytesReadable(this.#fd) || this.#probe.look(this.#fd));
  }

  close(): void {
    for (const fd of [this.#fd, this.#given]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#given = -1;
    this.#probe.close();
  }
}
