/** Where a stream that is held ends, when a program has the path of its disk. */
import { expect, test } from "bun:test";
import { truncateSync, writeFileSync } from "node:fs";
import { Counters } from "../../../src/stream/counters.ts";
import { HoldStream } from "../../../src/stream/hold/hold-stream.ts";
import { SpoolFile } from "../../../src/stream/spool-file.ts";
import { makeUnnamed } from "../../../src/files/unnamed.ts";
import { tempFolder } from "../../support/temp.ts";

function held(size: number) {
  const folder = tempFolder();
  const counters = new Counters();
  const file = { ...makeUnnamed(folder.path, false), folder: folder.path };
  const sinkOf = () => {
    throw new Error("there is no sink");
  };
  const spool = new SpoolFile(file, counters);
  const parts = {
    spool,
    size,
    reconnect: false,
    post: () => {},
    sink: undefined,
    sinkOf,
    counters,
  };
  const stream = new HoldStream(parts);
  return {
    stream,
    counters,
    path: `/proc/self/fd/${file.fd}`,
    [Symbol.dispose]() {
      stream.close();
      folder[Symbol.dispose]();
    },
  };
}

test("a stream that nobody has written to has no length", () => {
  using made = held(4096);
  expect(made.stream.end).toBe(0);
});

test("it ends where the file ends, which may get shorter, and longer than the stream is to be", () => {
  using made = held(4096);
  writeFileSync(made.path, "abc");
  expect(made.stream.end).toBe(3);
  truncateSync(made.path, 2 ** 40);
  expect(made.stream.end).toBe(2 ** 40);
  truncateSync(made.path, 1);
  expect(made.stream.end).toBe(1);
});

test("a file that is longer than the stream is to be breaks it at the finish, and is never cut off", () => {
  for (const short of ["pad", "allow", "fail"] as const) {
    using made = held(4096);
    truncateSync(made.path, 4096);
    made.stream.finish(short, false);
    expect(made.stream.failure).toBeUndefined();
    truncateSync(made.path, 4097);
    made.stream.finish(short, false);
    expect(made.stream.failure).toMatchObject({ code: "SPOOL_TOO_LONG", length: 4097, size: 4096 });
  }
});

test("what the file takes on the disk is known at the finish, though nobody has counted it", () => {
  using made = held(4096);
  writeFileSync(made.path, Buffer.alloc(2 ** 20, 1));
  made.stream.finish("allow", false);
  expect(made.counters.mostSpooled).toBeGreaterThanOrEqual(2 ** 20);
});
