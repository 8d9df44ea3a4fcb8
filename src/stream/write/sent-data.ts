/** What has been sent to the sink, to compare it with what a client that comes back sends again. */
import { Memory } from "../../../ffi/memory.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { blockOf, blockStart, eachBlock, placeIn, WINDOW_BLOCK } from "../blocks.ts";

/** Memory is taken in pieces of this size, at stream positions that are multiples of it. */
const BLOCK = WINDOW_BLOCK;

const ZEROES = new Uint8Array(BLOCK);

/**
 * The latest data of the stream, in at most `size` bytes of memory, however far apart it lies: a
 * client that goes around a disk full of holes has its last requests all over it. What lies between
 * the pieces are zeroes.
 */
export class SentData {
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
   * Copies what goes to the sink at `at`, behind all that was put before.
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
      this.#from = blockStart(add(oldest, 1), BLOCK);
      block = memory;
      block.bytes.fill(0);
    }
    block ??= new Memory(BLOCK);
    this.#blocks.set(key, block);
    return block;
  }

  /** Forgets what lies at or behind `head`: it has not got to the sink. */
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

  /** True when all data from `start` on is remembered. */
  knows(start: Offset): boolean {
    return start >= this.#from;
  }

  /** True when there are only zeroes in [start, end); all of it must be known, and with the sink. */
  isZero(start: Offset, end: Offset): boolean {
    for (const [key, { bytes }] of this.#blocks) {
      const [first, last] = [blockStart(key, BLOCK), blockStart(add(key, 1), BLOCK)];
      if (last <= start || first >= end) continue;
      const from = first < start ? placeIn(start, BLOCK) : 0;
      const to = last > end ? placeIn(end, BLOCK) : BLOCK;
      if (Buffer.compare(bytes.subarray(from, to), ZEROES.subarray(from, to)) !== 0) return false;
    }
    return true;
  }

  /** True when `bytes` are known to be what the sink has at `at`; it must have all of that. */
  matches(at: Offset, bytes: Uint8Array): boolean {
    // It may have been forgotten while the payload came.
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

/** WRITEs of its own that a connection remembers; qemu has 16 at a time, nbdcopy 64. */
const REMEMBERED_WRITES = 128;

/** Where the latest WRITEs of one connection begin and end. */
export class RecentWrites {
  /** Start and end of each, in turn. */
  readonly #ranges: Offset[] = [];
  #next = 0;

  add(start: Offset, end: Offset): void {
    this.#ranges[this.#next++] = start;
    this.#ranges[this.#next++] = end;
    this.#next %= 2 * REMEMBERED_WRITES;
  }

  /** True when one of them overlaps [start, end). */
  overlap(start: Offset, end: Offset): boolean {
    const ranges = this.#ranges;
    for (let i = 0; i < ranges.length; i += 2) {
      if ((ranges[i] as Offset) < end && start < (ranges[i + 1] as Offset)) return true;
    }
    return false;
  }
}
