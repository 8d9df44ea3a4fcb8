import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { clientItems, diagnose, endsEarly, quoted } from "../../src/check/advice.ts";
import type { Trial } from "../../src/check/report.ts";
import type { SpoolFolder } from "../../src/check/spool.ts";
import type { DryRunFindings } from "../../src/stream/messages.ts";
import { dryRun as trial, FAILED, MiB, NONE } from "../support/dry-runs.ts";
import { command } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** Where the stream goes, and the command. */
const ASKED = { sink: "f", command: ["client", "$nbd"], spool: undefined };

describe("a client that streams", () => {
  test("in order needs nothing", () => {
    expect(diagnose([trial()], ASKED)).toMatchObject({
      streams: true,
      line: "nbd-streaming run pipe=f -- client '$nbd'",
      why: null,
      size: null,
      window: 0,
    });
  });

  test("in order but with several writes at a time gets a window to be safe", () => {
    const { line } = diagnose([trial({ concurrent: true })], ASKED);
    expect(line).toBe("nbd-streaming run pipe=f window=64M -- client '$nbd'");
  });

  test.each([
    [MiB, 64 * MiB],
    [64 * MiB, 256 * MiB],
    [256 * MiB, 1024 * MiB],
  ])("with a window of %d gets more of it to be safe", (size, advised) => {
    const survey = { window: { size, needed: size, largest: 2 ** 30 } };
    expect(diagnose([trial(survey)], ASKED)).toMatchObject({ window: advised, spool: null });
  });

  test("gets a spool where that would be much memory", () => {
    const window = { size: 512 * MiB, needed: 300 * MiB, largest: 2 ** 30 };
    const findings = diagnose([trial({ window, spool: { needed: 299 * MiB } })], ASKED);
    expect(findings).toMatchObject({ window: 0, spool: "/var/tmp", hold: false });
    expect(findings).toMatchObject({ room: 299 * MiB, noPad: false });
    expect(findings.line).toBe("nbd-streaming run pipe=f spool=/var/tmp -- client '$nbd'");
  });

  test("gets all the memory that is tried where a spool would not do", () => {
    const window = { size: 512 * MiB, needed: 300 * MiB, largest: 2 ** 30 };
    const findings = diagnose([trial({ window, spool: undefined })], ASKED);
    expect(findings).toMatchObject({ window: 1024 * MiB, spool: null });
  });

  test("gets the spool that the user has named instead of a window, if it needs any", () => {
    const asked = { ...ASKED, spool: "/big disk" };
    expect(diagnose([trial()], asked)).toMatchObject({ window: 0, spool: null });
    const { line } = diagnose([trial({ concurrent: true })], asked);
    expect(line).toBe("nbd-streaming run pipe=f 'spool=/big disk' -- client '$nbd'");
  });

  test("as a disk only is held, in a spool as large as its data", () => {
    const survey = { window: undefined, spool: undefined };
    const held = trial({ ...survey, held: 5 * MiB }, { mode: "hold" });
    expect(diagnose([trial(survey), held], ASKED)).toMatchObject({
      line: "nbd-streaming run pipe=f spool=/var/tmp --hold -- client '$nbd'",
      ...{ streams: true, impossible: false, hold: true, noPad: false, room: 5 * MiB },
    });
  });

  test("as an image of a known format is not padded where that is shorter than size=", () => {
    const lineOf = (more: Partial<Trial>) =>
      diagnose([trial({ held: MiB }, { mode: "hold", ...more })], ASKED).line;
    const size = BigInt(3 * MiB);
    expect(lineOf({ size, format: "qcow2" })).toContain(
      ` size=${size} spool=/var/tmp --hold --no-pad --`,
    );
    expect(lineOf({ size: BigInt(2 * MiB), format: "qcow2" })).not.toContain("--no-pad");
    expect(lineOf({ size, format: null })).not.toContain("--no-pad");
    expect(lineOf({ format: "qcow2" })).not.toContain("--no-pad");
  });

  test("gets no larger window than is known to do", () => {
    const survey = { window: { size: MiB, needed: MiB, largest: 8 * MiB } };
    expect(diagnose([trial(survey)], ASKED).window).toBe(8 * MiB);
  });

  test("only with size= gets it", () => {
    const findings = diagnose([trial({ writes: NONE }, FAILED), trial({}, { size: 1000n })], ASKED);
    expect(findings.size).toBe(1000n);
    expect(findings.line).toBe("nbd-streaming run pipe=f size=1000 -- client '$nbd'");
  });

  test("only without the size= that was given does without it", () => {
    const trials = [trial({}, { ...FAILED, size: 1000n }), trial()];
    const findings = diagnose(trials, ASKED);
    expect(findings.size).toBeNull();
    expect(findings.line).not.toContain("size=");
  });

  test("only with another size= than the one that was given gets that one", () => {
    const trials = [trial({}, { ...FAILED, size: 1000n }), trial({}, FAILED)];
    const findings = diagnose([...trials, trial({}, { size: 1512n })], ASKED);
    expect(findings.size).toBe(1512n);
    expect(findings.line).toContain(" size=1512 ");
    expect(clientItems(findings, []).map(({ state, text }) => `${state}: ${text}`)).toEqual([
      expect.stringMatching(/^note: with size=1000 it does not work: /),
      expect.stringMatching(/^note: without size= it does not work: /),
      `ok: with size=1512 it works, up to byte ${2 * MiB}`,
      "ok: from start to end, one after the other",
      "ok: not needed",
    ]);
  });

  test("with the size= that was given keeps it", () => {
    const { size, line } = diagnose([trial({}, { size: 7n })], ASKED);
    expect(size).toBe(7n);
    expect(line).toContain("size=7 ");
  });
});

describe("a client that does not stream", () => {
  test.each([
    ["has failed", trial({}, FAILED), /has failed with status 1/],
    ["has written nothing", trial({ writes: NONE }), /has written nothing/],
    ["goes to the end of an endless disk", trial({ end: 2n ** 63n - 2n ** 30n }), /give size=/],
    [
      "goes too far back",
      trial({ window: undefined, spool: undefined, backward: { requests: 3, bytes: 9 } }),
      /3 times.* needs --hold$/,
    ],
  ])("%s, and there is no line for it", (_, one, why) => {
    const findings = diagnose([one], ASKED);
    expect(findings).toMatchObject({
      streams: false,
      line: null,
      size: null,
      why: expect.stringMatching(why),
    });
    expect(clientItems(findings, [])[0]).toMatchObject({ name: "try", state: "failed" });
  });
});

describe("that no line was found", () => {
  const BACK = { readsBack: { requests: 1, bytes: 512 } };

  test.each([
    ["a command that fails for itself", trial({}, FAILED), false],
    ["one that writes nothing", trial({ writes: NONE }), false],
    ["one that would have to be held, which was not tried", trial(BACK, FAILED), false],
    [
      "one for which there was no room",
      trial(BACK, { ...FAILED, mode: "hold", spoolFailed: true }),
      false,
    ],
    ["one that fails on an ordinary disk", trial(BACK, { ...FAILED, mode: "hold" }), true],
  ])("of %s is told from what is impossible", (_, one, impossible) => {
    expect(diagnose([one], ASKED)).toMatchObject({ line: null, impossible });
  });
});

test("what is read back is told where it is lost", () => {
  const texts = (survey: Partial<DryRunFindings>) =>
    clientItems(diagnose([trial(survey)], ASKED), [])
      .filter(({ name }) => name === "reads")
      .map(({ text }) => text);
  const reads = { requests: 3, bytes: 1536 };
  const some = { requests: 1, bytes: 512 };
  expect(texts({ reads, readsHeld: some })).toEqual([]);
  expect(texts({ reads, readsHeld: some, readsBack: some })).toEqual([
    "1 (512 bytes) of what has gone by, which is lost",
  ]);
});

test("a stream ends early only before the one disk that it can be of", () => {
  const disk = { path: "d", size: BigInt(3 * MiB) };
  expect(endsEarly(trial(), [disk])).toBeTrue();
  expect(endsEarly(trial(), [{ ...disk, size: BigInt(2 * MiB) }])).toBeFalse();
  expect(endsEarly(trial(), [disk, disk])).toBeFalse();
  expect(endsEarly(trial(), [])).toBeFalse();
  expect(endsEarly(trial({}, { size: 1n }), [disk])).toBeFalse();
  expect(endsEarly(trial({}, FAILED), [disk])).toBeFalse();
});

test("a line that may leave out the end of the disk is warned of", () => {
  const disk = { path: "d", size: BigInt(3 * MiB) };
  const [first] = clientItems(diagnose([trial()], ASKED), [disk]);
  expect(first).toMatchObject({ state: "warning", name: "try" });
  expect(first?.text).toEndWith(`if all of it is copied, add size=${3 * MiB}`);
});

test("the first backward requests are told one by one", () => {
  const place = { request: "NBD_CMD_WRITE of 512 bytes at 0", offset: 0, length: 512, head: 1024 };
  const backward = { requests: 5, bytes: 2560 };
  const findings = diagnose([trial({ places: [place], backward })], ASKED);
  const told = clientItems(findings, []).filter(({ name }) => name === "goes back");
  expect(told.map(({ text }) => text)).toEqual([
    "NBD_CMD_WRITE of 512 bytes at 0 came when the data had reached byte 1024",
  ]);
});

test.each([
  "",
  "a b",
  "it's",
  "$nbd",
  "`x`",
  "a\nb",
  '"',
  "\\",
  "*",
  "~",
  "ä",
  "-n",
  "k=v",
  "!",
  "#",
])("the shell takes %p as it is once it is quoted", async (word) => {
  expect(await command(["sh", "-c", `printf %s ${quoted(word)}`])).toBe(word);
});

test("an image that has to grow is told from a command that fails for itself", () => {
  const whyNot = (format: string | null) =>
    diagnose([trial({}, { ...FAILED, mode: "hold", format })], ASKED).why;
  expect(whyNot("vmdk")).toBe(
    `${FAILED.problem}; such an image has to grow, and a disk over NBD does not: have it made in '$spool', with --hold`,
  );
  expect(whyNot("qcow2")).toBe(FAILED.problem);
});

describe("the folder of the spool", () => {
  const window = { size: 512 * MiB, needed: 300 * MiB, largest: 2 ** 30 };
  const findings = diagnose([trial({ window, spool: { needed: MiB } })], ASKED);
  const itemOf = (folder: Partial<SpoolFolder>) =>
    clientItems(findings, [], { path: "/d", free: MiB, ...folder }).find(
      ({ name }) => name === "spool=",
    );

  test("has room for what was ahead of its turn, or is told not to", () => {
    const text = `ahead of their turn at once were ${MiB} bytes, and /d has ${MiB} free`;
    expect(itemOf({})).toMatchObject({ state: "note", text: `needed: ${text}` });
    expect(itemOf({ free: MiB - 1 })).toMatchObject({
      state: "failed",
      text: expect.stringMatching(/ has 1048575 free: name a folder with more, spool=DIR$/),
    });
  });

  test("that cannot have one is told", () => {
    expect(itemOf({ problem: "no" })).toMatchObject({ state: "failed", text: "no" });
    expect(itemOf({ onlyHeld: "no" })).toMatchObject({ state: "failed", text: "no" });
  });
});

describe("the line to use", () => {
  const command = ["qemu-img", "convert", "my disk", "$nbd"];

  test("has no parameter that is not needed", () => {
    expect(diagnose([trial()], { ...ASKED, sink: "disk.fifo", command }).line).toBe(
      "nbd-streaming run pipe=disk.fifo -- qemu-img convert 'my disk' '$nbd'",
    );
  });

  test("has size= to the byte, and window=", () => {
    const asked = { ...ASKED, sink: "exec:zstd -c", command: ["a b"] };
    expect(diagnose([trial({ concurrent: true }, { size: 1025n })], asked).line).toBe(
      "nbd-streaming run 'pipe=exec:zstd -c' size=1025 window=64M -- 'a b'",
    );
  });
});
