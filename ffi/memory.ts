/** Memory that JavaScript shares with the C library. */
import { type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { libc } from "./libc.ts";

/** Bytes of a page of memory (getpagesize(2)). */
export function pageSize(): number {
  return libc.getpagesize();
}

/**
 * Bytes at a fixed address. A typed array's memory does not move while the array is alive, so the
 * address is taken once, in place of a conversion in every call.
 */
export class Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #address: number;

  /** @param source the bytes to use, or the number of zero bytes to allocate */
  constructor(source: Uint8Array | number) {
    this.bytes = typeof source === "number" ? new Uint8Array(source) : source;
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.#address = ptr(this.bytes);
  }

  /** Length in bytes. */
  get length(): number {
    return this.bytes.length;
  }

  /** The address of the byte at `offset`, valid while this object is referenced. */
  at(offset: number): Pointer {
    return (this.#address + offset) as Pointer;
  }

  /**
   * Gives the memory back at once, with all of its buffer. Nobody may use it any more, nor its address:
   * {@link bytes} is empty then. The garbage collector gives back the same, but so late that several times as
   * much is taken meanwhile.
   */
  free(): void {
    (this.bytes.buffer as ArrayBuffer).transfer(0);
  }

  /** Copies `length` bytes from `position` in another memory to `offset`, without creating a view. */
  copyFrom(source: Memory, position: number, length: number, offset: number): void {
    if (position + length > source.length || offset + length > this.length) {
      throw new RangeError("the bytes do not fit");
    }
    libc.memcpy(this.at(offset), source.at(position), length);
  }

  /** Copies `length` bytes from an address, which must be valid, to `offset`. */
  copyFromAddress(address: number, length: number, offset: number): void {
    if (offset + length > this.length) throw new RangeError("the bytes do not fit");
    libc.memcpy(this.at(offset), address as Pointer, length);
  }
}

const IOVEC_SIZE = 16;

/**
 * A queue of `struct iovec` for writev(2). Addresses are below 2^47 on Linux, so a number composed of
 * two 32-bit halves is exact.
 */
export class IoVec {
  readonly #memory: Memory;
  readonly #words: Uint32Array;
  #first = 0;
  #end = 0;
  #remaining = 0;

  /** @param capacity the most buffers */
  constructor(readonly capacity: number) {
    this.#memory = new Memory(capacity * IOVEC_SIZE);
    this.#words = new Uint32Array(this.#memory.bytes.buffer);
  }

  /** Buffers not yet consumed. */
  get count(): number {
    return this.#end - this.#first;
  }

  /** Bytes not yet consumed. */
  get remaining(): number {
    return this.#remaining;
  }

  /** True when no further buffer fits until all are consumed. */
  get full(): boolean {
    return this.#end === this.capacity;
  }

  /** The address of the first unconsumed entry. */
  get pointer(): Pointer {
    return this.#memory.at(this.#first * IOVEC_SIZE);
  }

  /** Appends `length` bytes at `address`; extends the last entry where they follow it in memory. */
  push(address: number, length: number): void {
    const words = this.#words;
    const last = (this.#end - 1) * 4;
    if (this.count > 0 && read64(words, last) + (words[last + 2] as number) === address) {
      words[last + 2] = (words[last + 2] as number) + length;
    } else {
      const at = this.#end++ * 4;
      write64(words, at, address);
      write64(words, at + 2, length);
    }
    this.#remaining += length;
  }

  /** Visits the first `length` bytes, entry by entry; the views are valid only during the call. */
  each(length: number, visit: (bytes: Uint8Array) => void): void {
    const words = this.#words;
    for (let at = this.#first * 4; length > 0; at += 4) {
      const here = Math.min(length, words[at + 2] as number);
      visit(new Uint8Array(toArrayBuffer(read64(words, at), 0, here)));
      length -= here;
    }
  }

  /** Removes the first `length` bytes, across entries. */
  consume(length: number): void {
    const words = this.#words;
    this.#remaining -= length;
    while (length > 0) {
      const at = this.#first * 4;
      const here = words[at + 2] as number;
      if (length < here) {
        write64(words, at, read64(words, at) + length);
        words[at + 2] = here - length;
        return;
      }
      length -= here;
      this.#first++;
    }
    if (this.#first === this.#end) this.clear();
  }

  /** Removes the last `length` bytes. */
  dropLast(length: number): void {
    const words = this.#words;
    this.#remaining -= length;
    while (length > 0) {
      const at = (this.#end - 1) * 4;
      const here = words[at + 2] as number;
      if (length < here) {
        words[at + 2] = here - length;
        return;
      }
      length -= here;
      this.#end--;
    }
    if (this.#first === this.#end) this.clear();
  }

  clear(): void {
    this.#first = 0;
    this.#end = 0;
    this.#remaining = 0;
  }
}

function read64(words: Uint32Array, at: number): number {
  return (words[at + 1] as number) * 0x1_0000_0000 + (words[at] as number);
}

function write64(words: Uint32Array, at: number, value: number): void {
  words[at] = value % 0x1_0000_0000;
  words[at + 1] = Math.floor(value / 0x1_0000_0000);
}
