/** Data that was sent to the sink, to compare it with what a client that has come back sends again. */
import { Memory } from "../../../ffi/memory.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { blockOf, blockStart, eachBlock, placeIn, WINDOW_BLOCK as BLOCK } from "../blocks.ts";

const ZEROES = new Uint8Array(BLOCK);

/**
 * The latest data of the stream, in at most `size` bytes of memory, however far apart it lies: the last
 * requests for a disk full of holes may be all over it. Between the blocks there are zeroes.
 */
export class SentData {
  /** In the order of the stream, so the first is the oldest. */
  readonly #blocks = new Map<Offset, Memory>();
  readonly #limit: number;
  /** Data before this is forgotten. */
  #from: Offset = 0;
  /** The end of what was put last. */
  #end: Offset = 0;

  /** @param size bytes; a client has at most a few dozen MiB in flight */
  constructor(size: number) {
    this.#limit = Math.max(1, Math.floor(size / BLOCK));
  }

  /**
   * Copies bytes that go to the sink at `at`, behind all that was put before.
   *
   * @param address of the bytes, which must be valid during the call
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

  /** Forgets the data from `head` on, which has not got to the sink. */
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

  /** True when there are only zeroes in [start, end), which must be known and sent. */
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

  /** True when the sink has got the same `bytes` at `at`, where all must be sent. */
  matches(at: Offset, bytes: Uint8Array): boolean {
    // It may have been forgotten while the payload arrived.
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

/** WRITEs that a connection remembers; qemu has 16 in flight, nbdcopy 64. */
const REMEMBERED_WRITES = 128;

/** The ranges of the latest WRITEs of one connection. */
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
