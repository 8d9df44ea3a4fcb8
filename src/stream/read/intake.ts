/** Takes the source's bytes, and remembers those that can be read again. */
import { O_WRONLY } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable, close, open, read } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { splice } from "../../../ffi/pipe.ts";
import { endpointCall, toEndpointError } from "../../endpoint/error.ts";
import type { Source } from "../../endpoint/sources/source.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, placeIn } from "../blocks.ts";
import { KEPT } from "./rule.ts";

/** Bytes of a block of memory; a read(2) fills at most one. */
export const BLOCK = 256 * 1024;

/** The index of the byte at `at` in its block. */
export function placeInBlock(at: Offset): number {
  return placeIn(at, BLOCK);
}

/** The number of bytes of [at, end) in the same block as the first. */
export function lengthInBlock(at: Offset, end: Offset): number {
  return Number(min(subtract(end, at), BLOCK - placeInBlock(at)));
}

/** The most bytes that one call skips. */
const DISCARDED = 1024 * 1024;

/** Bytes of the source that clients may read (again), by their position in the stream. */
export class History {
  readonly #blocks = new Map<Offset, Memory>();
  readonly #kept = new Map<Offset, Memory>();
  readonly #free: Memory[] = [];
  /** The block of the last {@link trim}. */
  #trimmed: Offset = 0;

  /** The memory for the next byte of the stream, at `at`, and for those behind it in its block. */
  room(at: Offset): Memory {
    const blocks = at < KEPT ? this.#kept : this.#blocks;
    const key = blockOf(at, BLOCK);
    let block = blocks.get(key);
    if (block === undefined) {
      block = this.#free.pop() ?? new Memory(BLOCK);
      blocks.set(key, block);
    }
    return block;
  }

  /** The memory with the byte at `at`, which must be there, at {@link placeInBlock}. */
  memoryAt(at: Offset): Memory {
    const key = blockOf(at, BLOCK);
    return (this.#kept.get(key) ?? this.#blocks.get(key)) as Memory;
  }

  /** Copies [start, end) to `to` at `offset`. */
  copy(start: Offset, end: Offset, to: Memory, offset: number): void {
    for (let at = start; at < end;) {
      const length = lengthInBlock(at, end);
      to.copyFrom(this.memoryAt(at), placeInBlock(at), length, offset);
      at = add(at, length);
      offset += length;
    }
  }

  /** Forgets everything below `limit` except the first KEPT bytes. */
  trim(limit: Offset): void {
    const first = blockOf(limit, BLOCK);
    if (first === this.#trimmed) return;
    this.#trimmed = first;
    // In insertion order: the first is the oldest.
    for (const [key, block] of this.#blocks) {
      if (key >= first) return;
      this.#blocks.delete(key);
      this.#free.push(block);
    }
  }
}

/**
 * Takes the source's bytes, in order, each once. All methods that take return the number of bytes,
 * 0 at the end of the source (`ended` is true then), or WOULD_BLOCK (`ready` is false then).
 */
export class Intake {
  /** False from the moment the source would have blocked until poll(2) says that it does not. */
  ready = false;
  /** The source has no more. */
  ended = false;
  /** Bytes taken so far: the stream position of the next one. */
  taken: Offset = 0;
  readonly #source: Source;
  readonly #history: History;
  /** Bytes that are known to be in the source's pipe. */
  #known = 0;
  /** /dev/null; -1 until it is needed. */
  #null = -1;
  #scrap: Memory | undefined;

  constructor(source: Source, history: History) {
    this.#source = source;
    this.#history = history;
  }

  /**
   * The number of bytes that can be taken without waiting.
   *
   * @param wanted more need not be known: to ask the kernel takes a lock that the writer needs, too
   */
  available(wanted = 1): number {
    if (this.ended) return 0;
    if (this.#known >= wanted) return this.#known;
    if (this.#source.fd < 0) return this.#noted(WOULD_BLOCK);
    const n = this.#noted(this.#source.fill());
    this.#known = Math.max(0, n);
    return n;
  }

  /** Takes into the history. @param limit bytes; fewer come at a time */
  intoHistory(limit: Offset): number {
    if (this.available() <= 0) return this.ended ? 0 : WOULD_BLOCK;
    const place = placeInBlock(this.taken);
    const length = Number(min(limit, BLOCK - place));
    return this.#took(this.#read(this.#history.room(this.taken), place, length));
  }

  /**
   * Moves up to `length` bytes, which have to be {@link available}, to a socket.
   *
   * @returns bytes moved; WOULD_BLOCK when the socket takes no more now; 0 when another reader of the pipe
   *   has taken them
   * @throws SyscallError when the socket's peer is gone
   */
  intoSocket(socket: number, length: number): number {
    const n = splice(this.#source.pipe, socket, length);
    if (n > 0) this.#took(n);
    // With an empty pipe there is nothing to wait for: the socket may be writable.
    else if (n === WOULD_BLOCK && bytesReadable(this.#source.pipe) === 0) return 0;
    return n;
  }

  /** Skips bytes. @param limit bytes; fewer go at a time */
  skip(limit: Offset): number {
    const available = this.available();
    if (available <= 0) return available;
    if (this.#null < 0) this.#null = endpointCall(() => open("/dev/null", O_WRONLY));
    const length = Number(min(limit, DISCARDED));
    const n = this.#noted(endpointCall(() => splice(this.#source.pipe, this.#null, length)));
    return this.#took(n);
  }

  /** Takes and discards bytes behind the stream's end. */
  surplus(): number {
    const available = this.available();
    if (available <= 0) return available;
    const scrap = (this.#scrap ??= new Memory(DISCARDED));
    this.#known = 0;
    return this.#read(scrap, 0, scrap.length);
  }

  close(): void {
    if (this.#null >= 0) close(this.#null);
    this.#null = -1;
  }

  #read(memory: Memory, place: number, length: number): number {
    try {
      return this.#noted(read(this.#source.pipe, memory.at(place), length));
    } catch (error) {
      throw toEndpointError(error);
    }
  }

  /** Counts what was taken. */
  #took(n: number): number {
    if (n <= 0) return n;
    this.taken = add(this.taken, n);
    this.#known = Math.max(0, this.#known - n);
    return n;
  }

  /** Remembers the result of a call on the source. */
  #noted(n: number): number {
    if (n <= 0) this.#known = 0;
    if (n === 0) this.ended = true;
    else if (n === WOULD_BLOCK) this.ready = false;
    return n;
  }
}
