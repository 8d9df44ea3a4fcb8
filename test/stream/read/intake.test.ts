import { describe, expect, test } from "bun:test";
import { Memory } from "../../../ffi/memory.ts";
import { add, type Offset } from "../../../src/protocol/offset.ts";
import { BLOCK, History, placeInBlock } from "../../../src/stream/read/intake.ts";
import { KEPT } from "../../../src/stream/read/rule.ts";
import { pseudoRandom } from "../../support/images.ts";

/** Puts bytes in, as many at a time as there is room for. @returns the memory that they are in */
function put(history: History, at: Offset, bytes: Uint8Array): Set<Memory> {
  const used = new Set<Memory>();
  for (let done = 0; done < bytes.length;) {
    const memory = history.room(add(at, done));
    const place = placeInBlock(add(at, done));
    const part = bytes.subarray(done, done + BLOCK - place);
    memory.bytes.set(part, place);
    used.add(memory);
    done += part.length;
  }
  return used;
}

function copy(history: History, start: Offset, end: Offset): Buffer {
  const bytes = Buffer.alloc(Number(BigInt(end) - BigInt(start)) + 2, 0xee);
  history.copy(start, end, new Memory(bytes), 1);
  // Nothing around it is touched.
  expect([bytes[0], bytes.at(-1)]).toEqual([0xee, 0xee]);
  return bytes.subarray(1, -1);
}

describe.each<[string, Offset]>([
  ["the start", 0],
  ["a place in a block", 100_001],
  ["the end of what is kept", KEPT - 300_000],
  ["2^53", 2 ** 53 - 400_000],
  ["a place beyond 2^60", 2n ** 60n + 77n],
])("at %s", (_, at) => {
  test("what was put in comes out, in whatever pieces", () => {
    const history = new History();
    const bytes = pseudoRandom(1_000_000);
    put(history, at, bytes.subarray(0, 333_333));
    put(history, add(at, 333_333), bytes.subarray(333_333));
    expect(copy(history, at, add(at, bytes.length)).equals(bytes)).toBeTrue();
    for (const [from, to] of [
      [0, 1],
      [999_999, 1_000_000],
      [12_345, 678_901],
    ] as const) {
      const part = copy(history, add(at, from), add(at, to));
      expect(part.equals(bytes.subarray(from, to))).toBeTrue();
    }
  });
});

test("of nothing, nothing is copied", () => {
  expect(copy(new History(), 5, 5)).toBeEmpty();
});

describe("trimming", () => {
  test("gives memory to what comes next, and keeps what is not below the limit", () => {
    const history = new History();
    const bytes = pseudoRandom(4_000_000);
    const first = put(history, KEPT, bytes);
    const limit = KEPT + 3_000_000;
    history.trim(limit);
    const rest = copy(history, limit, KEPT + bytes.length);
    expect(rest.equals(bytes.subarray(3_000_000))).toBeTrue();
    const second = put(history, KEPT + bytes.length, bytes.subarray(0, 2_000_000));
    expect([...second].filter((memory) => first.has(memory)).length).toBeGreaterThan(5);
    expect(copy(history, limit, KEPT + bytes.length).equals(rest)).toBeTrue();
  });

  test("leaves what is kept for ever", () => {
    const history = new History();
    const bytes = pseudoRandom(2 * KEPT);
    put(history, 0, bytes);
    history.trim(2 * KEPT);
    const more = put(history, 2 * KEPT, pseudoRandom(2 * KEPT, 7));
    expect(more.size).toBe(8);
    expect(copy(history, 0, KEPT).equals(bytes.subarray(0, KEPT))).toBeTrue();
  });

  test("beyond 2^53 works as well", () => {
    const history = new History();
    const at = 2n ** 60n;
    const bytes = pseudoRandom(1_000_000);
    put(history, at, bytes);
    history.trim(at + 600_000n);
    const rest = copy(history, at + 600_000n, at + 1_000_000n);
    expect(rest.equals(bytes.subarray(600_000))).toBeTrue();
  });
});
