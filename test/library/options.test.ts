/** From options to settings: every default, every refusal, and that it is done in one place. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  DEFAULTS,
  resolveRun,
  resolveServe,
  resolveSize,
  type RunOptions,
  type ServeOptions,
  type StreamOptions,
} from "../../src/library/options.ts";
import { usageErrorOf } from "../support/thrown.ts";

const served = (options: ServeOptions = {}) => resolveServe({ pipe: "x", ...options });
const ran = (options: RunOptions = {}) => resolveRun({ pipe: "x", command: "true", ...options });

test("what is not said has its default", () => {
  const all = {
    direction: "write",
    spec: { kind: "path", path: "x" },
    size: undefined,
    needsSize: undefined,
    window: 0,
    held: 0,
    pad: false,
    exact: false,
    exportName: undefined,
    pidFile: undefined,
    spool: undefined,
    hold: false,
    security: { policy: "off" },
    maxConnections: 100,
    negotiationTimeout: 10_000,
    reconnect: undefined,
    openTimeout: undefined,
    checksum: undefined,
    progressInterval: 1000,
    signal: undefined,
    beforeStart: undefined,
    workerUrl: new URL("../../src/stream.worker.ts", import.meta.url),
    files: [{ name: { code: "OPTION", option: "pipe" }, path: "x" }],
  } as const;
  expect(served()).toStrictEqual({
    ...all,
    short: "fail",
    idleTimeout: 60_000,
    entrance: { kind: "tcp", host: "127.0.0.1", port: 10809 },
    keep: false,
  });
  expect(ran()).toStrictEqual({
    ...all,
    short: "pad",
    idleTimeout: undefined,
    address: undefined,
    client: expect.anything() as never,
  });
});

test("a default is the one that is documented", () => {
  const text = readFileSync(join(import.meta.dir, "../../src/library/options.ts"), "utf8");
  const documented = (name: keyof typeof DEFAULTS) => {
    const [, comment = ""] =
      new RegExp(`/\\*\\*((?:(?!\\*/)[^])*)\\*/\\s*readonly ${name}\\?:`).exec(text) ?? [];
    return /Default: ([^]*)\./.exec(comment)?.[1];
  };
  const { host, port } = DEFAULTS.listen;
  const { serve, run } = DEFAULTS.idleTimeout;
  expect(documented("window")).toBe(`${DEFAULTS.window}`);
  expect(documented("negotiationTimeout")).toBe(`${DEFAULTS.negotiationTimeout}`);
  expect(documented("maxConnections")).toBe(`${DEFAULTS.maxConnections}`);
  expect(documented("progressInterval")).toBe(`${DEFAULTS.progressInterval}`);
  expect(documented("idleTimeout")).toBe(`${serve} for \`serve\`, ${run} for \`run\``);
  expect(documented("listen")).toBe(`TCP port ${port} of ${host}`);
});

test.each([
  [{}, "fail", "pad"],
  [{ pad: true }, "pad", "pad"],
  [{ pad: false }, "allow", "allow"],
  [{ pipe: undefined, read: "x" }, "fail", "allow"],
  [{ pipe: undefined, read: "x", pad: true }, "fail", "allow"],
  [{ pipe: undefined, read: "x", pad: false }, "allow", "allow"],
] as const)(
  "a short stream with %p is to %s for serve, and to %s for run",
  (options, one, other) => {
    expect(served(options).short).toBe(one);
    expect(ran(options).short).toBe(other);
  },
);

test("a length is needed for zeroes behind a source, for one that is exact, and for an image", () => {
  const read = { pipe: undefined, read: "x" };
  const exact = { code: "OPTION", option: "exact", value: true } as const;
  expect(served({ pad: true }).needsSize).toBeUndefined();
  expect(served({ ...read, pad: true, exact: true }).needsSize).toEqual({
    code: "OPTION",
    option: "pad",
    value: true,
  });
  expect(served({ ...read, exact: true }).needsSize).toEqual(exact);
  const image = { ...read, command: undefined, image: "y.raw" };
  expect(ran(image).needsSize).toBe("making y.raw");
  expect(ran({ ...image, exact: true }).needsSize).toEqual(exact);
});

test("where clients may come back, what they have in flight is held at least", () => {
  expect(served({ reconnect: 1 })).toMatchObject({ window: 0, held: 64 << 20, reconnect: 1000 });
  const window = 128 << 20;
  expect(served({ reconnect: 1, window })).toMatchObject({ window, held: window });
});

test("with a spool there is a window, unless one says something else, or nothing is streamed before the end", () => {
  expect(served({ spool: "." })).toMatchObject({ spool: ".", window: 64 * 2 ** 20, hold: false });
  expect(ran({ spool: ".", window: 0 })).toMatchObject({ spool: ".", window: 0, held: 0 });
  expect(ran({ spool: ".", hold: true })).toMatchObject({ window: 0, hold: true });
});

test("a stream that is held has the length of size, unless it need not have", () => {
  const hold = { spool: ".", hold: true };
  expect(served(hold)).toMatchObject({ short: "pad", needsSize: undefined });
  expect(served({ ...hold, pad: false }).short).toBe("allow");
  expect(ran(hold).short).toBe("pad");
});

test("a time is in whole milliseconds, and never none", () => {
  expect(served({ openTimeout: 1.005 }).openTimeout).toBe(1005);
  expect(served({ openTimeout: 1e-9 }).openTimeout).toBe(1);
});

test.each([
  ["10k", 10240n],
  [10240, 10240n],
  [10240n, 10240n],
])("a size may be %p", (size, bytes) => {
  expect(served({ size }).size).toBe(bytes);
  expect(served({ window: size }).window).toBe(Number(bytes));
});

test("a descriptor may be given by its number", () => {
  expect(served({ pipe: 7 }).spec).toEqual({ kind: "descriptor", name: "fd:7", fd: 7 });
});

test("an export name has up to 4096 bytes", () => {
  for (const exportName of [undefined, "", "disk", "ä".repeat(2048), "n".repeat(4096)]) {
    expect(served({ exportName }).exportName).toBe(exportName);
  }
  for (const exportName of ["n".repeat(4097), `${"ä".repeat(2048)}n`]) {
    expect(usageErrorOf(() => served({ exportName }))).toBe(
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
    [
      "a spool of what is read",
      { pipe: undefined, read: "y", spool: "." },
      /^spool is for pipe: what is read is never ahead$/,
    ],
    [
      "a stream that is held nowhere",
      { hold: true },
      /^hold: true needs spool, a folder with room/,
    ],
  ];
  test.each(CASES)("%s", (_, options, message) => {
    expect(usageErrorOf(() => served(options))).toMatch(message);
  });
});

test.each([
  ["the sink", served, { pipe: "x" }],
  ["the source", served, { pipe: undefined, read: "./x" }],
  ["the image", ran, { command: undefined, image: "x" }],
  ["the socket", served, { listen: { kind: "unix", path: "x" } }],
  ["the socket of a command", ran, { listen: { kind: "unix", path: "x" } }],
] as const)("a pid file cannot be %s", (_, resolved, options) => {
  expect(usageErrorOf(() => resolved({ pidFile: "x", pipe: "y", ...options }))).toMatch(
    /^pidFile and .* are one file, x: name another one$/,
  );
  const settings = resolved({ pidFile: "z", pipe: "y", ...options });
  expect(settings.pidFile).toBe("z");
  // A report must not be any of them either.
  const paths = settings.files.map(({ path }) => path);
  expect(paths).toContain("z");
  expect(paths.some((path) => path.endsWith("x"))).toBeTrue();
});

test("of an idle client, 0 is for ever, and nothing is what it is otherwise", () => {
  expect(served({ idleTimeout: 0 }).idleTimeout).toBeUndefined();
  expect(served().idleTimeout).toBe(60_000);
  expect(served({ idleTimeout: 0.5 }).idleTimeout).toBe(500);
  expect(usageErrorOf(() => served({ idleTimeout: -1 }))).toMatch(/^idleTimeout -1 is/);
});

test("one that may come back is idle for no longer than it has for that", () => {
  expect(served({ reconnect: 5 }).idleTimeout).toBe(5000);
  expect(served({ reconnect: 5, idleTimeout: 2 }).idleTimeout).toBe(2000);
  expect(served({ reconnect: 5, idleTimeout: 0 }).idleTimeout).toBe(5000);
  expect(ran({ reconnect: 5 }).idleTimeout).toBe(5000);
});

/** The largest size: 2^63 - 2^30 bytes. */
const LARGEST = 9_223_372_035_781_033_984n;

test.each([
  ["0", 0n],
  ["0G", 0n],
  ["007", 7n],
  ["9007199254740993", 9_007_199_254_740_993n],
  [String(LARGEST), LARGEST],
  ["18014398507384832s", 18_014_398_507_384_832n * 512n],
  ["8589934591g", 8_589_934_591n << 30n],
  ["7E", 7n << 60n],
])("%s is exact", (text, bytes) => {
  expect(resolveSize("size", text)).toBe(bytes);
});

test.each([
  String(LARGEST + 1n),
  "18014398507384833s",
  "8589934592G",
  "8E",
  "9223372036854775808",
  "18446744073709551616",
  `1${"0".repeat(40)}`,
])("%s is too large", (text) => {
  expect(usageErrorOf(() => resolveSize("size", text))).toBe(
    `size: ${JSON.stringify(text)} is too large: the most is 2^63 - 2^30 bytes`,
  );
});

describe("what is no size", () => {
  test.each([
    "",
    " ",
    "G",
    "-1",
    "+1",
    "1.5G",
    "1e3",
    "0x10",
    "10 G",
    " 10",
    "10\n",
    "10KiB",
    "10KB",
    "10GG",
    "10z",
    "1_000",
    "1,000",
    "١",
    "10\u212a", // the sign for Kelvin, which is a k to some
    "Infinity",
  ])("%p is refused by the parameter's name", (text) => {
    const message = usageErrorOf(() => resolveSize("window", text));
    expect(message).toStartWith(`window: ${JSON.stringify(text)} is not a size: `);
  });
});
