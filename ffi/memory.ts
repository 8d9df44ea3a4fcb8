/** Memory that both JavaScript and the C library see. */
import { type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { libc } from "./libc.ts";

/**
 * Bytes at a fixed address. A typed array's memory never moves while the array is alive, so the
 * address is taken once and arithmetic on it replaces a conversion at every call.
 */
export class Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #address: number;

  /** @param source the bytes to use, or how many (zero-filled) to allocate */
  constructor(source: Uint8Array | number) {
    this.bytes = typeof source === "number" ? new Uint8Array(source) : source;
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.#address = ptr(this.bytes);
  }

  /** Length in bytes. */
  get length(): number {
    return this.bytes.length;
  }

  /** The address of the byte at `offset`, good for as long as this object is held. */
  at(offset: number): Pointer {
    return (this.#address + offset) as Pointer;
  }

  /** Copies `length` bytes from a place in another memory to `offset`, without a view of them. */
  copyFrom(source: Memory, place: number, length: number, offset: number): void {
    if (place + length > source.length || offset + length > this.length) {
      throw new RangeError("the bytes do not fit");
    }
    libc.memcpy(this.at(offset), source.at(place), length);
  }

  /** Copies `length` bytes from an address that is good for now to `offset`. */
  copyFromAddress(address: number, length: number, offset: number): void {
    if (offset + length > this.length) throw new RangeError("the bytes do not fit");
    libc.memcpy(this.at(offset), address as Pointer, length);
  }
}

const IOVEC_SIZE = 16;

/**
 * An array of `struct iovec` for writev(2), filled from the front and consumed from the front.
 * Addresses are below 2^47 on Linux, so two 32-bit halves hold them exactly.
 */
export class IoVec {
  readonly #memory: Memory;
  readonly #words: Uint32Array;
  #first = 0;
  #end = 0;
  #remaining = 0;

  /** @param capacity the most buffers it holds */
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

  /** True when no further buffer fits before the array has been consumed whole. */
  get full(): boolean {
    return this.#end === this.capacity;
  }

  /** The address of the first unconsumed entry. */
  get pointer(): Pointer {
    return this.#memory.at(this.#first * IOVEC_SIZE);
  }

  /** Appends `length` bytes at `address`; joins them to the last entry where they follow it. */
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

  /** Shows the first `length` bytes, entry by entry; the views are good only during the call. */
  each(length: number, visit: (bytes: Uint8Array) => void): void {
    const words = this.#words;
    for (let at = this.#first * 4; length > 0; at += 4) {
      const here = Math.min(length, words[at + 2] as number);
      visit(new Uint8Array(toArrayBuffer(read64(words, at), 0, here)));
      length -= here;
    }
  }

  /** Marks the first `length` bytes as done, whatever entries they fall into. */
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

  /** Forgets the last `length` bytes that are not consumed yet. */
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

  /** Forgets everything. */
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
