/** What is out of a stream and still remembered, for clients that repeat what was cut off. */
import { Memory } from "../../../ffi/memory.ts";
import { add, type Offset, toOffset } from "../../protocol/offset.ts";
import { blockOf, eachBlock, placeIn, WINDOW_BLOCK } from "../blocks.ts";

/** Memory is taken in pieces of this size, at stream positions that are multiples of it. */
const BLOCK = WINDOW_BLOCK;

const ZEROES = new Uint8Array(BLOCK);

/**
 * The latest data of the stream, in at most `size` bytes of memory, however far apart it lies: a
 * client that goes around a disk full of holes has its last requests all over it. What lies between
 * the pieces are zeroes.
 */
export class Emitted {
  /** In the order of the stream, so the first is the oldest. */
  readonly #blocks = new Map<Offset, Memory>();
  readonly #limit: number;
  /** Nothing is known of what lies before this. */
  #from: Offset = 0;
  /** The end of what was put last. */
  #end: Offset = 0;

  /** @param size bytes; a client has a few dozen MiB in flight at the most */
  constructor(size: number) {
    this.#limit = Math.max(1, Math.floor(size / BLOCK));
  }

  /**
   * Copies what goes out at `at`, behind all that was put before.
   *
   * @param address of bytes that are good for now
   */
  put(at: Offset, address: number, length: number): void {
    let from = address;
    eachBlock(BLOCK, at, add(at, length), (key, place, part) => {
      this.#blockAt(key).copyFromAddress(from, part, place);
      from += part;
    });
    this.#end = add(at, length);
  }

  #blockAt(key: Offset): Memory {
    const known = this.#blocks.get(key);
    if (known !== undefined) return known;
    let block: Memory | undefined;
    if (this.#blocks.size === this.#limit) {
      const [oldest, memory] = this.#blocks.entries().next().value as [Offset, Memory];
      this.#blocks.delete(oldest);
      this.#from = startOf(add(oldest, 1));
      block = memory;
      block.bytes.fill(0);
    }
    block ??= new Memory(BLOCK);
    this.#blocks.set(key, block);
    return block;
  }

  /** What lies at or behind `head` is not out after all. */
  rewind(head: Offset): void {
    if (head >= this.#end) return;
    const first = blockOf(head, BLOCK);
    const place = placeIn(head, BLOCK);
    for (const [key, block] of this.#blocks) {
      if (key > first || (key === first && place === 0)) this.#blocks.delete(key);
      else if (key === first) block.bytes.fill(0, place);
    }
    this.#end = head;
  }

  /** True when enough is remembered to say what is out from `start` on. */
  knows(start: Offset): boolean {
    return start >= this.#from;
  }

  /** True when there are only zeroes in [start, end); all of it must be known, and out. */
  isZero(start: Offset, end: Offset): boolean {
    for (const [key, { bytes }] of this.#blocks) {
      const [blockStart, blockEnd] = [startOf(key), startOf(add(key, 1))];
      if (blockEnd <= start || blockStart >= end) continue;
      const from = blockStart < start ? placeIn(start, BLOCK) : 0;
      const to = blockEnd > end ? placeIn(end, BLOCK) : BLOCK;
      if (Buffer.compare(bytes.subarray(from, to), ZEROES.subarray(from, to)) !== 0) return false;
    }
    return true;
  }

  /** True when `bytes` are known to be what is out at `at`; all of it must be out. */
  matches(at: Offset, bytes: Uint8Array): boolean {
    // It may have been forgotten while it was on its way.
    let same = this.knows(at);
    let done = 0;
    eachBlock(BLOCK, at, add(at, bytes.length), (key, place, length) => {
      const there = this.#blocks.get(key)?.bytes ?? ZEROES;
      const part = bytes.subarray(done, done + length);
      same &&= Buffer.compare(part, there.subarray(place, place + length)) === 0;
      done += length;
    });
    return same;
  }
}

function startOf(block: Offset): Offset {
  return toOffset(BigInt(block) * BigInt(BLOCK));
}
