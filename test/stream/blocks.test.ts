import { expect, test } from "bun:test";
import type { Offset } from "../../src/protocol/offset.ts";
import { blockOf, blockStart, eachBlock, placeIn } from "../../src/stream/blocks.ts";

const SIZE = 65536;

test.each<[Offset, Offset, number]>([
  [0, 0, 0],
  [65535, 0, 65535],
  [65536, 1, 0],
  [2 ** 53 - 1, 2 ** 37 - 1, 65535],
  [2n ** 53n, 2 ** 37, 0],
  [2n ** 63n + 5n, 2 ** 47, 5],
])("%p lies in block %p at %d", (at, block, place) => {
  expect(blockOf(at, SIZE)).toBe(block);
  expect(placeIn(at, SIZE)).toBe(place);
});

test.each<[Offset, Offset]>([
  [0, 0],
  [3, 3 * SIZE],
  [2 ** 37 - 1, 2 ** 53 - SIZE],
  [2 ** 37, 2n ** 53n],
  [2 ** 47 - 1, 2n ** 63n - BigInt(SIZE)],
])("block %p starts at %p", (block, start) => {
  expect(blockStart(block, SIZE)).toBe(start);
});

function blocks(start: Offset, end: Offset): [Offset, number, number][] {
  const found: [Offset, number, number][] = [];
  eachBlock(SIZE, start, end, (...one) => found.push(one));
  return found;
}

test("a range is cut where blocks meet", () => {
  expect(blocks(5, 5)).toEqual([]);
  expect(blocks(5, 6)).toEqual([[0, 5, 1]]);
  expect(blocks(0, SIZE)).toEqual([[0, 0, SIZE]]);
  expect(blocks(SIZE - 1, 2 * SIZE + 1)).toEqual([
    [0, SIZE - 1, 1],
    [1, 0, SIZE],
    [2, 0, 1],
  ]);
});

test("a range across 2^53 is cut there, too", () => {
  expect(blocks(2 ** 53 - 10, 2n ** 53n + 20n)).toEqual([
    [2 ** 37 - 1, SIZE - 10, 10],
    [2 ** 37, 0, 20],
  ]);
});
