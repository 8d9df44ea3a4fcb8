/** Data that was sent to the sink, to compare it with what a client that has come back sends again. */
import { Memory } from "../../../ffi/memory.ts";
import { add, max, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, blockStart, eachBlock, placeIn, WINDOW_BLOCK as BLOCK } from "../blocks.ts";
import { Runs } from "../runs.ts";

const ZEROES = new Uint8Array(BLOCK);

/** A limit of what is known to be forgotten, so that a stream of any length takes the same memory. */
const FORGOTTEN_RUNS = 4096;

/**
 * The latest data of the stream, in at most `size` bytes of memory, however far apart it lies: the last
 * requests for a disk full of holes may be all over it. Between the blocks there are zeroes, except for what
 * was passed to {@link skip}.
 */
export class SentData {
  readonly #skipped = new Runs();
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

  /** [start, end) goes to the sink as well, behind all that was put before, and is not remembered. */
  skip(start: Offset, end: Offset): void {
    this.#skipped.add(start, end);
    if (this.#skipped.count > FORGOTTEN_RUNS) this.#forget(end);
    this.#end = end;
  }

  /** Everything before `end` counts as forgotten. */
  #forget(end: Offset): void {
    this.#from = end;
    this.#skipped.remove(0, end);
  }

  #blockAt(key: Offset): Memory {
    const known = this.#blocks.get(key);
    if (known !== undefined) return known;
    let block: Memory | undefined;
    if (this.#blocks.size === this.#limit) {
      const [oldest, memory] = this.#blocks.entries().next().value as [Offset, Memory];
      this.#blocks.delete(oldest);
      this.#forget(max(this.#from, blockStart(add(oldest, 1), BLOCK)));
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
    this.#skipped.remove(head, this.#end);
    this.#end = head;
  }

  /** True when all data from `start` on is remembered, but for what was skipped. */
  knows(start: Offset): boolean {
    return start >= this.#from;
  }

  /** True when there are only zeroes in [start, end), which must be known and sent. */
  isZero(start: Offset, end: Offset): boolean {
    if (this.#skipped.overlaps(start, end)) return false;
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
    let same = this.knows(at) && !this.#skipped.overlaps(at, add(at, bytes.length));
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

/** The latest requests that can be under way at a time: qemu has 16, four connections of nbdcopy 256. */
const UNDER_WAY = 256;

/** What clients have written last, on whichever connection: these WRITEs may come again, and no others. */
export class LatestWrites {
  readonly #size: number;
  readonly #positions = new Runs();
  /** In the order in which they came. */
  readonly #writes: { readonly start: Offset; readonly end: Offset }[] = [];
  #bytes = 0;

  /** @param size bytes that clients may have under way */
  constructor(size: number) {
    this.#size = size;
  }

  add(start: Offset, end: Offset): void {
    this.#writes.push({ start, end });
    this.#positions.add(start, end);
    this.#bytes += Number(subtract(end, start));
    while (this.#writes.length > UNDER_WAY || this.#bytes > this.#size) {
      const [oldest] = this.#writes.splice(0, 1);
      if (oldest === undefined) return;
      this.#positions.remove(oldest.start, oldest.end);
      this.#bytes -= Number(subtract(oldest.end, oldest.start));
    }
  }

  /** Visits [start, end) in parts, in order. @param visit gets each with whether it is of these WRITEs */
  each(
    start: Offset,
    end: Offset,
    visit: (from: Offset, to: Offset, latest: boolean) => void,
  ): void {
    let at = start;
    this.#positions.each(start, end, (from, to) => {
      if (at < from) visit(at, from, false);
      visit(from, to, true);
      at = to;
    });
    if (at < end) visit(at, end, false);
  }
}
