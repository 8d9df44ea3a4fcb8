/** The options of several streams: what is a stream's own, what is for all, and what is refused. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, linkSync, openSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import type { UserError } from "../../src/errors.ts";
import {
  type OwnOptions,
  resolveRunStreams,
  resolveServeStreams,
  type ServeStreamsOptions,
} from "../../src/library/several.ts";
import { makeCertificates } from "../support/certificates.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";
import { usageErrorOf } from "../support/thrown.ts";
import { waitingAt } from "../support/waiting.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const FILE = folder.file("file");
beforeAll(() => {
  writeFileSync(FILE, "x".repeat(512));
  linkSync(FILE, folder.file("hard"));
  symlinkSync(FILE, folder.file("soft"));
});

const served = (streams: readonly OwnOptions[], common: Partial<ServeStreamsOptions> = {}) =>
  resolveServeStreams({ ...common, streams });
const refusal = (...args: Parameters<typeof served>) => usageErrorOf(() => served(...args));

/** The message about two streams with these endpoints; undefined where they are taken. */
function shared(one: Partial<OwnOptions>, other: Partial<OwnOptions>): string | undefined {
  try {
    served([
      { size: 1, ...one, exportName: "vda" },
      { size: 1, ...other, exportName: "vdb" },
    ]);
    return undefined;
  } catch (error) {
    return (error as UserError).message;
  }
}

test("a stream has its own options, and those for all that it does not set", () => {
  const common = { size: "1M", window: "2M", pad: true, reconnect: 5, maxConnections: 7 } as const;
  const [vda, vdb] = served(
    [
      { exportName: "vda", pipe: "a" },
      { exportName: "vdb", read: "b", size: "3M", window: 0, pad: false, reconnect: 6 },
    ],
    common,
  );
  expect(vda).toMatchObject({
    ...{ exportName: "vda", direction: "write", size: 1n << 20n, window: 2 << 20 },
    ...{ short: "pad", reconnect: 5000, maxConnections: 7 },
  });
  expect(vdb).toMatchObject({
    ...{ exportName: "vdb", direction: "read", size: 3n << 20n, window: 0 },
    ...{ short: "allow", reconnect: 6000, maxConnections: 7 },
  });
});

test("all streams have the certificates that were read once", () => {
  const pki = makeCertificates(folder.path);
  const tls = { policy: "on", certificates: pki.all } as const;
  const streams = ["vda", "vdb"].map((exportName) => ({ exportName, pipe: exportName }));
  const command = "true";
  for (const all of [served(streams, { tls }), resolveRunStreams({ command, streams, tls })]) {
    const [vda, vdb] = all;
    expect(vda?.security).toMatchObject({ policy: "on", folder: pki.all });
    expect(vdb?.security).toBe(vda?.security as never);
  }
});

test("run pads each stream to its own size, unless it says otherwise", () => {
  const [vda, vdb] = resolveRunStreams({
    command: "true",
    streams: [
      { exportName: "vda", pipe: "a", size: 1 },
      { exportName: "vdb", pipe: "b", size: 2, pad: false },
    ],
  });
  expect([vda?.short, vdb?.short]).toEqual(["pad", "allow"]);
});

describe("a name", () => {
  test("is needed", () => {
    const streams = [{ exportName: "", pipe: "a" }];
    expect(refusal(streams)).toContain("each of several streams needs a name");
  });

  test("is one stream's", () => {
    const streams = ["a", "b", "a"].map((exportName) => ({ exportName, pipe: "/dev/null" }));
    expect(refusal(streams)).toBe("two streams are called a: give each a name of its own");
  });

  test("has at most 4096 bytes", () => {
    const name = "ä".repeat(2048);
    const named = (exportName: string) => [
      { exportName, pipe: "a" },
      { exportName: "other", pipe: "b" },
    ];
    expect(served(named(name))).toHaveLength(2);
    expect(refusal(named(`${name}a`))).toContain("4096");
  });
});

describe("an error", () => {
  const good = { exportName: "vda", pipe: "a" };

  test.each([
    ["has no endpoint", {}],
    ["has two", { pipe: "b", read: "c" }],
    ["has no size", { pipe: "b", size: "much" }],
    ["has too large a window", { pipe: "b", window: "1P" }],
    ["waits for no time", { pipe: "b", reconnect: -1 }],
    ["has an unknown checksum", { pipe: "b", checksum: "crc" as never }],
    ["is exact, and written", { pipe: "b", exact: true }],
    ["has a malformed endpoint", { pipe: "tcp:host" }],
  ])("names the stream that %s", (_, own) => {
    expect(refusal([good, { exportName: "vdb", ...own }])).toMatch(/^vdb: /);
  });

  test.each([
    ["connections", { maxConnections: 0 }, "maxConnections 0 is no number of clients"],
    ["certificates", { tls: { policy: "on", certificates: "none" } }, "cannot read none/server-"],
  ] as const)("names no stream where it is of the server's %s", (_, common, message) => {
    expect(() => served([good, { exportName: "vdb", pipe: "b" }], common)).toThrow(
      new RegExp(`^${message}`),
    );
  });

  test.each(["before", "behind"])(
    "releases the reader of the FIFO of a stream that is %s the one with the error",
    async (where) => {
      const fifo = folder.file(`released-${where}`);
      mkfifo(fifo, 0o600);
      await using reader = await waitingAt(fifo, "write");
      const vda = { exportName: "vda", pipe: fifo };
      const vdb = { exportName: "vdb" };
      expect(refusal(where === "before" ? [vda, vdb] : [vdb, vda])).toMatch(/^vdb: /);
      expect((await reader.ended()).status).toBe(0);
    },
  );
});

describe("two streams may not both use", () => {
  const cases: [string, () => [Partial<OwnOptions>, Partial<OwnOptions>]][] = [
    ["a FIFO that is not there", () => [{ pipe: "none" }, { pipe: "./none" }]],
    ["a file that one writes", () => [{ pipe: FILE }, { read: FILE }]],
    ["a file by a hard link", () => [{ pipe: FILE }, { pipe: folder.file("hard") }]],
    ["a file by a symbolic link", () => [{ pipe: FILE }, { read: folder.file("soft") }]],
    ["standard output", () => [{ pipe: "-" }, { pipe: "fd:1" }]],
  ];
  test.each(cases)("%s", (_, both) => {
    expect(shared(...both())).toMatch(/^the streams vda and vdb both use /);
  });

  test("a FIFO that is read", () => {
    const fifo = folder.file("fifo");
    mkfifo(fifo, 0o600);
    expect(shared({ read: fifo }, { read: fifo })).toMatch(/both use/);
    expect(shared({ read: fifo }, { pipe: fifo })).toMatch(/both use/);
  });

  test("the position of one descriptor, or of two of one file", () => {
    const [one, other] = [openSync(FILE, "r"), openSync(FILE, "r")];
    try {
      expect(shared({ read: one }, { read: one })).toMatch(/both use/);
      // The one may be a duplicate of the other.
      expect(shared({ read: one }, { read: other })).toMatch(/both use/);
      expect(shared({ read: one }, { read: FILE })).toBeUndefined();
    } finally {
      closeSync(one);
      closeSync(other);
    }
  });

  test("a terminal or another device that keeps what it gets", () => {
    expect(statSync("/dev/tty").isCharacterDevice()).toBeTrue();
    expect(shared({ pipe: "/dev/tty" }, { pipe: "/dev/tty" })).toMatch(/both use/);
  });
});

describe("two streams may both", () => {
  test.each([
    ["read one file", () => [{ read: FILE }, { read: folder.file("hard") }]],
    ["write to /dev/null", () => [{ pipe: "/dev/null" }, { pipe: "/dev/null" }]],
    ["read /dev/zero", () => [{ read: "/dev/zero" }, { read: "/dev/zero" }]],
    ["start one command", () => [{ pipe: "exec:cat" }, { pipe: "exec:cat" }]],
    ["connect to one port", () => [{ pipe: "tcp:localhost:9" }, { pipe: "tcp:localhost:9" }]],
  ] as [string, () => [Partial<OwnOptions>, Partial<OwnOptions>]][])("%s", (_, both) => {
    expect(shared(...both())).toBeUndefined();
  });
});

test("two names that have come to lead to one FIFO are refused before clients can come", () => {
  const [one, other] = [folder.file("made"), folder.file("dangling")];
  symlinkSync(one, other);
  let begun = 0;
  const [vda] = served(
    [
      { exportName: "vda", pipe: one },
      { exportName: "vdb", pipe: other },
    ],
    { beforeStart: () => begun++ },
  );
  vda?.beforeStart?.();
  expect(begun).toBe(1);
  mkfifo(one, 0o600);
  expect(usageErrorOf(() => vda?.beforeStart?.())).toMatch(/^the streams vda and vdb both use /);
  expect(begun).toBe(1);
});
