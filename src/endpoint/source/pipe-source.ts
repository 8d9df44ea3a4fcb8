/** The reading end of a pipe as the source: the fast one, since splice(2) needs no detour. */
import { O_RDONLY } from "../../../ffi/constants.ts";
import { bytesReadable } from "../../../ffi/fd.ts";
import { ofEndpoint } from "../guarded.ts";
import { PipeEnd } from "../pipe-end.ts";
import { Probe } from "./probe.ts";
import type { Source } from "./source.ts";

export class PipeSource extends PipeEnd implements Source {
  readonly #probe = new Probe();

  constructor(name: string, given = -1) {
    super(name, O_RDONLY, given);
  }

  get pipe(): number {
    return this.fd;
  }

  fill(): number {
    try {
      return bytesReadable(this.fd) || this.#probe.look(this.fd);
    } catch (error) {
      throw ofEndpoint(error);
    }
  }

  override close(): void {
    super.close();
    this.#probe.close();
  }
}
