/** Data that came ahead of its turn, held in memory until the gap before it fills. */
import { Memory } from "../../ffi/memory.ts";
import { add, max, min, type Offset, subtract } from "../protocol/offset.ts";

/** A run of held bytes, [start, end). */
interface Run {
  start: Offset;
  end: Offset;
}

/**
 * A ring of `size` bytes in which the byte at stream position p lies at p modulo `size`. Nothing is
 * held that lies `size` or more ahead of the head, so no two held bytes share a place.
 */
export class Window {
  /** The farthest that held data has reached ahead of the head, in bytes. */
  needed = 0;
  /** Made when it is needed: a client in sequence never does. */
  #ring: Memory | undefined;
  /** In order, disjoint, and never touching. */
  readonly #runs: Run[] = [];

  /** @param size bytes */
  constructor(readonly size: number) {}

  /** Where the first held run starts; undefined when nothing is held. */
  get start(): Offset | undefined {
    return this.#runs[0]?.start;
  }

  /** Where the last held run ends; undefined when nothing is held. */
  get end(): Offset | undefined {
    return this.#runs.at(-1)?.end;
  }

  /** Copies bytes to their place; they count as held only after {@link hold}. */
  put(at: Offset, bytes: Uint8Array): void {
    const ring = (this.#ring ??= new Memory(this.size));
    const place = this.#place(at);
    const first = Math.min(bytes.length, this.size - place);
    ring.bytes.set(bytes.subarray(0, first), place);
    ring.bytes.set(bytes.subarray(first), 0);
  }

  /** Counts [start, end) as held. @param head where the stream stands */
  hold(start: Offset, end: Offset, head: Offset): void {
    this.needed = Math.max(this.needed, Number(subtract(end, head)));
    const runs = this.#runs;
    let from = 0;
    while (from < runs.length && (runs[from] as Run).end < start) from++;
    let to = from;
    const merged = { start, end };
    while (to < runs.length && (runs[to] as Run).start <= end) {
      const run = runs[to++] as Run;
      merged.start = min(merged.start, run.start);
      merged.end = max(merged.end, run.end);
    }
    runs.splice(from, to - from, merged);
  }

  /** What lies below `head` has been overtaken. */
  trim(head: Offset): void {
    const runs = this.#runs;
    while (runs.length > 0 && (runs[0] as Run).end <= head) runs.shift();
    const first = runs[0];
    if (first !== undefined) first.start = max(first.start, head);
  }

  /**
   * Takes the first held run out.
   *
   * @param push gets it in one or two pieces by address, which stay as they are until the head has
   *   moved on and more is put
   * @returns where it ends
   */
  shift(push: (address: number, length: number) => void): Offset {
    const run = this.#runs.shift() as Run;
    const ring = this.#ring as Memory;
    const place = this.#place(run.start);
    const length = Number(subtract(run.end, run.start));
    const first = Math.min(length, this.size - place);
    push(ring.at(place), first);
    if (length > first) push(ring.at(0), length - first);
    return run.end;
  }

  /** Zeroes what is held of [start, end); it stays held. */
  zero(start: Offset, end: Offset): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    this.#overlaps(start, end, (from, length) => {
      const place = this.#place(from);
      const first = Math.min(length, this.size - place);
      ring.bytes.fill(0, place, place + first);
      ring.bytes.fill(0, 0, length - first);
    });
  }

  /**
   * Reads back what is held of [start, start + length).
   *
   * @returns that many bytes, zeroes where nothing is held; undefined when nothing of it is held
   */
  read(start: Offset, length: number): Uint8Array | undefined {
    const ring = this.#ring;
    let bytes: Uint8Array | undefined;
    if (ring === undefined) return undefined;
    this.#overlaps(start, add(start, length), (from, count) => {
      bytes ??= new Uint8Array(length);
      const at = Number(subtract(from, start));
      const place = this.#place(from);
      const first = Math.min(count, this.size - place);
      bytes.set(ring.bytes.subarray(place, place + first), at);
      bytes.set(ring.bytes.subarray(0, count - first), at + first);
    });
    return bytes;
  }

  #overlaps(start: Offset, end: Offset, visit: (from: Offset, length: number) => void): void {
    for (const run of this.#runs) {
      const from = max(run.start, start);
      const to = min(run.end, end);
      if (from < to) visit(from, Number(subtract(to, from)));
    }
  }

  #place(at: Offset): number {
    return typeof at === "number" ? at % this.size : Number(at % BigInt(this.size));
  }
}
