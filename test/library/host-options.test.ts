import { describe, expect, test } from "bun:test";
import { hostOptions, idleTimeoutOf } from "../../src/library/host-options.ts";
import type { StreamOptions } from "../../src/library/options.ts";
import { LIBRARY } from "../../src/messages/vocabulary.ts";
import { StopSignal } from "../../src/server/stop-signal.ts";
import { NOBODY } from "../../src/server/observer.ts";
import { usageErrorOf } from "../support/thrown.ts";

const quiet = () => {};
const FRAME = {
  stopSignal: new StopSignal(),
  observer: NOBODY,
  log: { info: quiet, warn: quiet, verbose: quiet },
  vocabulary: LIBRARY,
};

const of = (options: Parameters<typeof hostOptions>[0]) =>
  hostOptions({ pipe: "x", ...options }, FRAME);

test("what is not said has its default", () => {
  expect(of({})).toMatchObject({
    direction: "write",
    spec: { kind: "path", path: "x" },
    size: undefined,
    window: 0,
    exportName: undefined,
    security: { policy: "off" },
    maxConnections: 100,
    negotiationTimeout: 10,
    reconnect: undefined,
    openTimeout: undefined,
    checksum: undefined,
  });
});

test.each([
  ["10k", 10240n],
  [10240, 10240n],
  [10240n, 10240n],
])("a size may be %p", (size, bytes) => {
  expect(of({ size }).size).toBe(bytes);
  expect(of({ window: size }).window).toBe(Number(bytes));
});

test("a descriptor may be given by its number", () => {
  expect(of({ pipe: 7 }).spec).toEqual({ kind: "descriptor", name: "fd:7", fd: 7 });
});

test("an export name has up to 4096 bytes", () => {
  for (const exportName of [undefined, "", "disk", "ä".repeat(2048), "n".repeat(4096)]) {
    expect(of({ exportName }).exportName).toBe(exportName);
  }
  for (const exportName of ["n".repeat(4097), `${"ä".repeat(2048)}n`]) {
    expect(usageErrorOf(() => of({ exportName }))).toBe(
      "exportName takes a name of at most 4096 bytes",
    );
  }
});

describe("wrong options are refused:", () => {
  const CASES: [string, StreamOptions, RegExp][] = [
    ["nothing at the endpoint", { pipe: undefined }, /^pipe is missing/],
    ["two endpoints", { read: "y" }, /^read cannot be combined with pipe:/],
    ["half a byte", { size: 1.5 }, /^size: 1\.5 is not a size: give a whole number of bytes$/],
    ["a number that is not exact", { size: 2 ** 60 }, /^size: 1152921504606847000 is not a size/],
    ["no number", { window: Number.NaN }, /^window: NaN is not a size/],
    ["a size below 0", { size: -1n }, /^size: -1n is not a size/],
    ["a size out of range", { size: 1n << 63n }, /^size: 9223372036854775808n is too large/],
    ["a window out of range", { window: 1n << 40n }, /^window: 1099511627776n is too large/],
    ["an endless time", { openTimeout: Number.POSITIVE_INFINITY }, /^openTimeout Infinity is no/],
    ["no time", { negotiationTimeout: 0 }, /^negotiationTimeout 0 is no time/],
    ["a time below 0", { reconnect: -1 }, /^reconnect -1 is no time/],
    ["half a client", { maxConnections: 0.5 }, /^maxConnections 0\.5 is no number of clients/],
    ["an unknown checksum", { checksum: "crc32" as never }, /^checksum crc32 is not known: there/],
    [
      "an unknown kind of TLS",
      { tls: { policy: "yes" as never, certificates: "." } },
      /^tls\.policy yes is not known: there are on and require$/,
    ],
    ["an exact sink", { exact: true }, /^exact: true needs read: clients cannot write past size$/],
    ["a bad descriptor", { pipe: -1 }, /^pipe: "fd:-1": fd: takes a number/],
  ];
  test.each(CASES)("%s", (_, options, message) => {
    expect(usageErrorOf(() => of(options))).toMatch(message);
  });
});

test.each([
  ["the sink", { pipe: "x" }],
  ["the source", { pipe: undefined, read: "./x" }],
  ["the image", { image: "x" }],
  ["the socket", { listen: { kind: "unix", path: "x" } }],
] as const)("a pid file cannot be %s", (_, options) => {
  expect(usageErrorOf(() => of({ pidFile: "x", pipe: "y", ...options }))).toMatch(
    /^pidFile and .* are one file, x: name another one$/,
  );
  expect(of({ pidFile: "z", pipe: "y", ...options }).pidFile).toBe("z");
});

test("0 is for ever, and nothing is what it is otherwise", () => {
  expect(idleTimeoutOf({ idleTimeout: 0 }, 60)).toBeUndefined();
  expect(idleTimeoutOf({}, 60)).toBe(60);
  expect(idleTimeoutOf({ idleTimeout: 0.5 }, 60)).toBe(0.5);
  expect(usageErrorOf(() => idleTimeoutOf({ idleTimeout: -1 }, 60))).toMatch(/^idleTimeout -1 is/);
});
