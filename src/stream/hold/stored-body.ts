/** A part of the spool on its way to a client. */
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { Memory } from "../../../ffi/memory.ts";
import { send } from "../../../ffi/socket.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { keepFromFtl } from "../no-ftl.ts";
import type { Body } from "../replies.ts";
import type { SpoolFile } from "../spool-file.ts";

/** Bytes that are read at once; more only where the client wants them unfragmented. */
export const PART = 256 * 1024;

/**
 * Reads through memory: a client that has the pages of a file in its socket, as after sendfile(2), would see what
 * is written there later.
 */
export class StoredBody implements Body {
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

  /**
   * Begins, and reads the first {@link PART}.
   *
   * @param whole reads all of it, so that {@link send} cannot fail because of the spool
   * @throws SpoolError
   */
  start(at: Offset, length: number, whole = false): void {
    const large = whole && length > PART;
    if (large || this.#buffer === undefined || this.#buffer.length > PART) {
      this.#buffer = new Memory(large ? length : PART);
    }
    this.#at = at;
    this.#left = length;
    this.#fill(this.#buffer);
  }

  /** Copies the first part. */
  copyTo(memory: Memory, place: number): void {
    memory.copyFrom(this.#buffer as Memory, 0, this.#end, place);
  }

  #fill(buffer: Memory): void {
    const length = Math.min(this.#left, buffer.length);
    this.#spool.read(this.#at, buffer, 0, length);
    this.#at = add(this.#at, length);
    this.#left -= length;
    this.#first = 0;
    this.#end = length;
  }

  send(fd: number): boolean {
    const buffer = this.#buffer as Memory;
    for (;;) {
      while (this.#first < this.#end) {
        const n = send(fd, buffer.at(this.#first), this.#end - this.#first);
        if (n === WOULD_BLOCK) return false;
        this.#first += n;
      }
      if (this.#left === 0) break;
      this.#fill(buffer);
    }
    // Such READs are rare.
    if (buffer.length > PART) this.#buffer = undefined;
    return true;
  }
}
