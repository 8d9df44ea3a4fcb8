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
const WORDS = { sink: "f", command: ["client", "$nbd"] };

describe("a client that streams", () => {
  test("in order needs nothing", () => {
    expect(diagnose([trial()], undefined, WORDS)).toMatchObject({
      streams: true,
      line: "nbd-streaming run pipe=f -- client '$nbd'",
      why: null,
      size: "not needed",
      window: 0,
    });
  });

  test("in order but with several writes at a time gets a window to be safe", () => {
    const { line } = diagnose([trial({ concurrent: true })], undefined, WORDS);
    expect(line).toBe("nbd-streaming run pipe=f window=64M -- client '$nbd'");
  });

  test.each([
    [MiB, 64 * MiB],
    [64 * MiB, 256 * MiB],
    [2 ** 32, 2 ** 34],
  ])("with a window of %d gets more of it to be safe", (size, advised) => {
    const survey = { window: { size, needed: size, largest: 2 ** 34 } };
    expect(diagnose([trial(survey)], undefined, WORDS).window).toBe(advised);
  });

  test("gets no larger window than is known to do", () => {
    const survey = { window: { size: MiB, needed: MiB, largest: 8 * MiB } };
    expect(diagnose([trial(survey)], undefined, WORDS).window).toBe(8 * MiB);
  });

  test("only with size= gets it", () => {
    const findings = diagnose(
      [trial({ writes: NONE }, FAILED), trial({}, { size: 1000n })],
      undefined,
      WORDS,
    );
    expect(findings.size).toBe("needed");
    expect(findings.line).toBe("nbd-streaming run pipe=f size=1000 -- client '$nbd'");
  });

  test("only without the size= that was given does without it", () => {
    const trials = [trial({}, { ...FAILED, size: 1000n }), trial()];
    const findings = diagnose(trials, 1000n, WORDS);
    expect(findings.size).toBe("minded");
    expect(findings.line).not.toContain("size=");
  });

  test("only with another size= than the one that was given gets that one", () => {
    const trials = [trial({}, { ...FAILED, size: 1000n }), trial({}, FAILED)];
    const findings = diagnose([...trials, trial({}, { size: 1512n })], 1000n, WORDS);
    expect(findings.size).toBe("minded");
    expect(findings.line).toContain(" size=1512 ");
    expect(clientItems(findings, []).find(({ name }) => name === "size=")?.text).toBe(
      "it works only with 1512 in place of the size= that was given",
    );
  });

  test("with the size= that was given keeps it", () => {
    const { size, line } = diagnose([trial({}, { size: 7n })], 7n, WORDS);
    expect(size).toBe("not tried without");
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
    const findings = diagnose([one], undefined, WORDS);
    expect(findings).toMatchObject({
      streams: false,
      line: null,
      size: null,
      why: expect.stringMatching(why),
    });
    expect(clientItems(findings, []).at(-1)).toMatchObject({ name: "verdict", state: "failed" });
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
    expect(diagnose([one], undefined, WORDS)).toMatchObject({ line: null, impossible });
  });
});

test("what is read out of the window is told from what is lost", () => {
  const text = (survey: Partial<DryRunFindings>) =>
    clientItems(diagnose([trial(survey)], undefined, WORDS), []).find(
      ({ name }) => name === "reads",
    )?.text;
  const reads = { requests: 3, bytes: 1536 };
  const some = { requests: 1, bytes: 512 };
  expect(text({ reads })).toBe("3 (1536 bytes), nothing of what it has written");
  expect(text({ reads, readsHeld: some })).toBe(
    "1 (512 bytes) of what it has written, out of the window",
  );
  expect(text({ reads, readsHeld: some, readsBack: some })).toBe(
    "1 (512 bytes) of what has gone by, which is lost",
  );
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

test("backward requests are told one by one, and the rest by their number", () => {
  const place = { request: "NBD_CMD_WRITE of 512 bytes at 0", offset: 0, length: 512, head: 1024 };
  const backward = { requests: 5, bytes: 2560 };
  const findings = diagnose([trial({ places: [place], backward })], undefined, WORDS);
  const told = clientItems(findings, []).filter(({ name }) => name === "goes back");
  expect(told.map(({ text }) => text)).toEqual([
    "NBD_CMD_WRITE of 512 bytes at 0 came when the data had reached byte 1024",
    "and 4 times more",
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
    expect(runLine({ sink: "disk.fifo", size: undefined, window: 0, command })).toBe(
      "nbd-streaming run pipe=disk.fifo -- qemu-img convert 'my disk' '$nbd'",
    );
  });

  test("has size= to the byte, and window=", () => {
    const sink = "exec:zstd -c";
    expect(runLine({ sink, size: 1025n, window: 2 ** 26, command: ["a b"] })).toBe(
      "nbd-streaming run 'pipe=exec:zstd -c' size=1025 window=64M -- 'a b'",
    );
  });
});
