/** Which WRITEs a client may repeat when it comes back after its connection was lost. */
import type { Offset } from "../../protocol/offset.ts";

/** As many as a client is likely to have had in flight; qemu has 16, nbdcopy 64. */
const REMEMBERED = 128;

/**
 * Where the last WRITEs that were admitted started. A client that comes back repeats, byte for
 * byte, those whose replies it has not seen; whatever else lies below the head is still an error.
 */
export class Replay {
  readonly #starts: (Offset | undefined)[] = new Array(REMEMBERED).fill(undefined);
  #next = 0;

  remember(start: Offset): void {
    this.#starts[this.#next++ % REMEMBERED] = start;
  }

  /** True when one of them started here. */
  knows(start: Offset): boolean {
    return this.#starts.includes(start);
  }
}
