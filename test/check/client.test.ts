import { describe, expect, test } from "bun:test";
import {
  clientItems,
  diagnose,
  endsEarly,
  mayNeedSize,
  quoted,
  runLine,
} from "../../src/check/client.ts";
import type { Trial } from "../../src/check/report.ts";
import type { DryRunFindings } from "../../src/stream/messages.ts";
import { command } from "../support/program.ts";

const MiB = 2 ** 20;
const NONE = { requests: 0, bytes: 0 };

const SURVEY: DryRunFindings = {
  writes: { requests: 2, bytes: 2 * MiB },
  zeroes: NONE,
  gaps: NONE,
  backward: NONE,
  places: [],
  farthest: 0,
  reads: NONE,
  readsHeld: NONE,
  readsBack: NONE,
  flushes: 1,
  concurrent: false,
  end: 2 * MiB,
  window: { size: 0, needed: 0, largest: 2 ** 34 },
  undecided: false,
  scattered: false,
};

function trial(survey: Partial<DryRunFindings> = {}, more: Partial<Trial> = {}): Trial {
  return { size: null, status: 0, problem: null, survey: { ...SURVEY, ...survey }, ...more };
}

const FAILED = { status: 1, problem: "the command has failed with status 1: see its message" };
/** Where the stream goes, and the command. */
const WORDS = ["f", ["client", "$nbd"]] as const;

describe("a client that streams", () => {
  test("in order needs nothing", () => {
    expect(diagnose([trial()], ...WORDS)).toMatchObject({
      streams: true,
      line: "nbd-streaming run pipe=f -- client '$nbd'",
      why: null,
      size: null,
      window: 0,
    });
  });

  test("in order but with several writes at a time gets a window to be safe", () => {
    const { line } = diagnose([trial({ concurrent: true })], ...WORDS);
    expect(line).toBe("nbd-streaming run pipe=f window=64M -- client '$nbd'");
  });

  test.each([
    [MiB, 64 * MiB],
    [64 * MiB, 256 * MiB],
    [2 ** 32, 2 ** 34],
  ])("with a window of %d gets more of it to be safe", (size, advised) => {
    const survey = { window: { size, needed: size, largest: 2 ** 34 } };
    expect(diagnose([trial(survey)], ...WORDS).window).toBe(advised);
  });

  test("gets no larger window than is known to do", () => {
    const survey = { window: { size: MiB, needed: MiB, largest: 8 * MiB } };
    expect(diagnose([trial(survey)], ...WORDS).window).toBe(8 * MiB);
  });

  test("only with size= gets it", () => {
    const findings = diagnose(
      [trial({ writes: NONE }, FAILED), trial({}, { size: 1000n })],
      ...WORDS,
    );
    expect(findings.size).toBe(1000n);
    expect(findings.line).toBe("nbd-streaming run pipe=f size=1000 -- client '$nbd'");
  });

  test("only without the size= that was given does without it", () => {
    const trials = [trial({}, { ...FAILED, size: 1000n }), trial()];
    const findings = diagnose(trials, ...WORDS);
    expect(findings.size).toBeNull();
    expect(findings.line).not.toContain("size=");
  });

  test("only with another size= than the one that was given gets that one", () => {
    const trials = [trial({}, { ...FAILED, size: 1000n }), trial({}, FAILED)];
    const findings = diagnose([...trials, trial({}, { size: 1512n })], ...WORDS);
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
    const { size, line } = diagnose([trial({}, { size: 7n })], ...WORDS);
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
      trial({ window: undefined, backward: { requests: 3, bytes: 9 } }),
      /3 times/,
    ],
  ])("%s, and there is no line for it", (_, one, why) => {
    const findings = diagnose([one], ...WORDS);
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
    ["one that goes back too far", trial({ window: undefined }), true],
    ["one that cannot read back and fails", trial(BACK, FAILED), true],
    ["one that scatters its writes", trial({ window: undefined, scattered: true }), false],
    [
      "one for which a larger window might do",
      trial({ window: undefined, undecided: true }),
      false,
    ],
  ])("of %s is told from what is impossible", (_, one, impossible) => {
    expect(diagnose([one], ...WORDS)).toMatchObject({ line: null, impossible });
  });
});

test("what is read back is told where it is lost", () => {
  const texts = (survey: Partial<DryRunFindings>) =>
    clientItems(diagnose([trial(survey)], ...WORDS), [])
      .filter(({ name }) => name === "reads")
      .map(({ text }) => text);
  const reads = { requests: 3, bytes: 1536 };
  const some = { requests: 1, bytes: 512 };
  expect(texts({ reads, readsHeld: some })).toEqual([]);
  expect(texts({ reads, readsHeld: some, readsBack: some })).toEqual([
    "1 (512 bytes) of what has gone by, which is lost",
  ]);
});

test("size= may be why a command fails, but not where it reads back or goes back too far", () => {
  expect(mayNeedSize(trial({}, FAILED))).toBeTrue();
  expect(mayNeedSize(trial({ end: 2n ** 62n }))).toBeTrue();
  expect(mayNeedSize(trial())).toBeFalse();
  expect(mayNeedSize(trial({ readsBack: { requests: 1, bytes: 1 } }, FAILED))).toBeFalse();
  expect(mayNeedSize(trial({ window: undefined }, FAILED))).toBeFalse();
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
  const [first] = clientItems(diagnose([trial()], ...WORDS), [disk]);
  expect(first).toMatchObject({ state: "warning", name: "try" });
  expect(first?.text).toEndWith(`if all of it is copied, add size=${3 * MiB}`);
});

test("the first backward requests are told one by one", () => {
  const place = { request: "NBD_CMD_WRITE of 512 bytes at 0", offset: 0, length: 512, head: 1024 };
  const backward = { requests: 5, bytes: 2560 };
  const findings = diagnose([trial({ places: [place], backward })], ...WORDS);
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

describe("the line to use", () => {
  const command = ["qemu-img", "convert", "my disk", "$nbd"];

  test("has no parameter that is not needed", () => {
    expect(runLine("disk.fifo", null, 0, command)).toBe(
      "nbd-streaming run pipe=disk.fifo -- qemu-img convert 'my disk' '$nbd'",
    );
  });

  test("has size= to the byte, and window=", () => {
    const sink = "exec:zstd -c";
    expect(runLine(sink, 1025n, 2 ** 26, ["a b"])).toBe(
      "nbd-streaming run 'pipe=exec:zstd -c' size=1025 window=64M -- 'a b'",
    );
  });
});
