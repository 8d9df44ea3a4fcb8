/** A part of the spool on its way to a client. */
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { Memory } from "../../../ffi/memory.ts";
import { send } from "../../../ffi/socket.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { keepFromFtl } from "../no-ftl.ts";
import type { Body } from "../replies.ts";
import type { SpoolFile } from "../spool-file.ts";

const BUFFER_SIZE = 256 * 1024;

/**
 * Reads through memory: a client that has the pages of a file in its socket, as after sendfile(2), would see what
 * is written there later.
 */
export class StoredBody implements Body {
  /** The most bytes that are copied behind their header. */
  readonly inlineMax = 64 * 1024;
  readonly #spool: SpoolFile;
  /** Allocated for the first READ of a connection. */
  #buffer: Memory | undefined;
  /** The position behind what is in the buffer, and how much is left from there on. */
  #at: Offset = 0;
  #left = 0;
  /** What of the buffer is to be sent. */
  #first = 0;
  #end = 0;

  constructor(spool: SpoolFile) {
    keepFromFtl(StoredBody, this.#fill);
    this.#spool = spool;
  }

  /** Begins, and reads the first part. @throws SpoolError */
  start(at: Offset, length: number): void {
    this.#at = at;
    this.#left = length;
    this.#fill();
  }

  /** Copies the first part, which is everything up to {@link inlineMax}. */
  copyTo(memory: Memory, place: number): void {
    memory.copyFrom(this.#buffer as Memory, 0, this.#end, place);
  }

  #fill(): void {
    const buffer = (this.#buffer ??= new Memory(BUFFER_SIZE));
    const length = Math.min(this.#left, buffer.length);
    this.#spool.read(this.#at, buffer, 0, length);
    this.#at = add(this.#at, length);
    this.#left -= length;
    this.#first = 0;
    this.#end = length;
  }

  send(fd: number): boolean {
    for (;;) {
      const buffer = this.#buffer as Memory;
      while (this.#first < this.#end) {
        const n = send(fd, buffer.at(this.#first), this.#end - this.#first);
        if (n === WOULD_BLOCK) return false;
        this.#first += n;
      }
      if (this.#left === 0) return true;
      this.#fill();
    }
  }
}
