import { describe, expect, test } from "bun:test";
import { appendFileSync, openSync, readFileSync, statSync } from "node:fs";
import { FileSink } from "../../../src/endpoint/sinks/file-sink.ts";
import { tempFolder } from "../../support/temp.ts";

/** As many zeroes as are skipped, in place of being written. */
const HOLE = 1024 * 1024;

describe("FileSink", () => {
  test("gives a file the zeroes at its end as a hole", () => {
    using folder = tempFolder();
    const path = folder.file("sparse");
    const sink = new FileSink(path, openSync(path, "w"));
    sink.open();
    expect(sink.zeroes(HOLE)).toBe(HOLE);
    expect(statSync(path).size).toBe(0);
    expect(sink.complete()).toBeTrue();
    expect(statSync(path)).toMatchObject({ size: HOLE, blocks: 0 });
  });

  test("cuts off nothing that somebody else has written behind them", () => {
    using folder = tempFolder();
    const path = folder.file("shared");
    const sink = new FileSink(path, openSync(path, "w"));
    sink.open();
    expect(sink.zeroes(HOLE)).toBe(HOLE);
    const theirs = Buffer.alloc(2 * HOLE, "x");
    appendFileSync(path, theirs);
    expect(sink.complete()).toBeTrue();
    expect(readFileSync(path).equals(theirs)).toBeTrue();
  });
});
