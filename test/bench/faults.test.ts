/** The fault table: what is made of what was seen, and a few faults that are really injected. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type Case, CONTROL, nameOf, PIECE, SIZE } from "../../bench/faults/case.ts";
import { CASES, quick } from "../../bench/faults/cases/index.ts";
import { judge, type Observation, pipefail } from "../../bench/faults/judge.ts";
import { page } from "../../bench/faults/report/page.ts";
import { type Stored, stored } from "../../bench/faults/report/stored.ts";
import { type Entry, entryOf, isGood, totals } from "../../bench/faults/report/totals.ts";
import { makeDisk } from "../../bench/faults/run/disk.ts";
import { trial } from "../../bench/faults/run/trial.ts";
import { LIMIT } from "../support/limit.ts";
import { start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const WHOLE: Observation = {
  injected: true,
  status: 0,
  whole: true,
  knows: "an ordinary end",
  captive: false,
};
const TRUNCATED: Observation = { ...WHOLE, whole: false };

describe("a run", () => {
  test("of which the reader has every byte is no false success, whatever the status", () => {
    for (const status of [0, 4, undefined]) {
      for (const captive of [false, true]) {
        const { falseSuccess, misled } = judge({ ...WHOLE, status, captive });
        expect([falseSuccess, misled]).toEqual([false, false]);
      }
    }
  });

  test("with status 0 is a false success if the reader does not, whatever it knows", () => {
    for (const knows of ["an ordinary end", "an error", "gone", "nothing", "waits"] as const) {
      expect(judge({ ...TRUNCATED, knows }).falseSuccess).toBe(true);
    }
  });

  test("with another status is one only if a reader of its own has taken a part for the whole", () => {
    const failed = { ...TRUNCATED, status: 4 };
    expect(judge(failed)).toEqual({
      hung: false,
      falseSuccess: false,
      beyondKnowing: false,
      misled: true,
    });
    expect(judge({ ...failed, captive: true })).toEqual({
      ...{ hung: false, falseSuccess: true, beyondKnowing: false, misled: false },
    });
    expect(judge({ ...failed, captive: true, knows: "killed" }).falseSuccess).toBe(false);
  });

  test("that nobody could have known is told apart, and is no false success", () => {
    expect(judge({ ...TRUNCATED, captive: true }, false)).toEqual({
      ...{ hung: false, falseSuccess: false, beyondKnowing: true, misled: false },
    });
    expect(judge(WHOLE, false).beyondKnowing).toBe(false);
  });

  test("of a pipeline is misleading, too, if its last command says 0 of it", () => {
    const killed = { ...TRUNCATED, status: 137, alone: 0, knows: "nothing" } as const;
    expect(judge(killed)).toEqual({
      hung: false,
      falseSuccess: false,
      beyondKnowing: false,
      misled: true,
    });
    for (const other of [{ alone: 137 }, { knows: "gone" }, { whole: true }] as const) {
      expect(judge({ ...killed, ...other }).misled).toBe(false);
    }
  });

  test("that has no status has hung, and can be a false success all the same", () => {
    expect(judge({ ...TRUNCATED, status: undefined, knows: "waits" })).toEqual({
      ...{ hung: true, falseSuccess: false, beyondKnowing: false, misled: false },
    });
    expect(judge({ ...TRUNCATED, status: undefined, captive: true }).falseSuccess).toBe(true);
  });
});

test.each([
  [0, 0, 0],
  [4, 0, 4],
  [0, 7, 7],
  [141, 7, 7],
  [undefined, 0, undefined],
  [0, undefined, undefined],
])("a pipeline of commands that end with %p and %p has, with pipefail, %p", (first, last, both) => {
  expect(pipefail(first, last)).toBe(both);
});

const CASE: Case = {
  ...{ program: "ours", endpoint: "exec: command", fault: "reader is killed", at: "middle" },
  plan: { direction: "write", client: { kind: "copy" } },
};

const entry = (seen: Partial<Observation>, one: Partial<Case> = {}): Entry => {
  const observed = { ...WHOLE, ...seen };
  return entryOf({ ...CASE, ...one }, 1, { ...observed, ...judge(observed), said: "it said | so" });
};
const notInjected = entryOf(CASE, 3, undefined, "too late");

const ENTRIES = [
  entry({}, { fault: CONTROL, at: "-" }),
  entry({ status: 4, whole: false, knows: "killed", captive: true }),
  entry({ status: 4, whole: false, knows: "killed", captive: true }, { at: "end" }),
  entry({ status: undefined, whole: false, knows: "waits" }, { endpoint: "FIFO" }),
  entry({ status: 0, whole: false, knows: "gone" }, { endpoint: "TCP socket" }),
  notInjected,
  entry({ status: 1, whole: false }, { program: "qemu-img", fault: CONTROL, at: "-" }),
];

describe("the totals", () => {
  const ofFault = totals(ENTRIES.slice(1, 6));

  test("count what was injected, and what was not apart from it", () => {
    expect(ofFault).toMatchObject({
      runs: 4,
      notInjected: 1,
      falseSuccesses: 1,
      hangs: 1,
      misled: 0,
    });
  });

  test("have the most frequent status first, and what hung among them", () => {
    expect(ofFault.statuses).toEqual([
      ["4", 2],
      ["hang", 1],
      ["0", 1],
    ]);
    expect(ofFault.knowledge[0]).toEqual(["killed", 2]);
  });

  test("take a run without a fault for good only if it was whole and said so", () => {
    const none = { fault: CONTROL };
    expect(isGood(entry({}, none))).toBe(true);
    expect(isGood(entry({ status: 4 }, none))).toBe(false);
    expect(isGood(entry({ whole: false }, none))).toBe(false);
    expect(isGood({ ...notInjected, ...none })).toBe(false);
  });
});

describe("the page", () => {
  const text = page(ENTRIES, ["Bun"]);
  const row = (start: string) =>
    text
      .split("\n")
      .find((line) => line.startsWith(`| ${start}`))
      ?.split(/(?<!\\)\|/)
      .map((cell) => cell.trim())
      .slice(2, -1);

  test("has a row for each program, without those that were left out", () => {
    expect(row("nbd-streaming")?.slice(0, 7)).toEqual(["4", "1", "0", "1", "0", "1", "1 of 1"]);
    expect(row("`qemu-img dd")?.slice(0, 7)).toEqual(["-", "-", "-", "-", "-", "-", "0 of 1"]);
    expect(row("nbdkit")).toBeUndefined();
  });

  test("has a row for each fault of a program", () => {
    expect(row("reader is killed")).toEqual([
      ...["4, 1 not injected", "**1** of 4", "0", "**1** of 4", "0"],
      ...["4 (2), hang (1), 0 (1)", "killed (2), waits (1), gone (1)"],
    ]);
  });

  test("has what a program says that cannot do it at all", () => {
    expect(text).toContain("Without any fault, exec: command: status 1");
    expect(text).toContain("`it said | so`");
  });

  test("has one by one what should not be so", () => {
    const [, list = ""] = text.split("## One by one");
    expect(list.match(/^\| ours /gm)).toHaveLength(3);
    for (const what of ["hang", "false success", "not injected"]) expect(list).toContain(what);
  });
});

test("what is kept for other programs has a line for each run", () => {
  const { programs, columns } = stored(ENTRIES, []);
  const runs = programs["ours"]?.["reader is killed"];
  expect(columns).toEqual(["sink or source", "where", "status", "every byte", "knows", "verdict"]);
  expect(runs).toEqual([
    ["exec: command", "middle", 4, false, "killed", "ok"],
    ["exec: command", "end", 4, false, "killed", "ok"],
    ["FIFO", "middle", null, false, "waits", "hang"],
    ["TCP socket", "middle", 0, false, "gone", "false success"],
    ["exec: command", "middle", null, null, null, "not injected"],
  ]);
});

describe("the cases", () => {
  const faults = CASES.filter(({ fault }) => fault !== CONTROL);

  test("have names of their own", () => {
    expect(new Set(CASES.map(nameOf)).size).toBe(CASES.length);
  });

  test("are at least 300 faults of ours, in all kinds of sinks and sources", () => {
    const ours = faults.filter(({ program }) => program === "ours");
    expect(ours.length).toBeGreaterThanOrEqual(300);
    expect(new Set(ours.map(({ endpoint }) => endpoint)).size).toBe(15);
  });

  test("have a run without any fault for whatever has one with", () => {
    for (const { program, endpoint } of faults) {
      // A device without room has none that is whole.
      if (endpoint === "character device" || (program === "nbdcopy" && endpoint === "stdout file"))
        continue;
      const control = CASES.find(
        (one) => one.fault === CONTROL && one.program === program && one.endpoint === endpoint,
      );
      expect(control, `${program}, ${endpoint}`).toBeDefined();
    }
  });

  test("of --quick are fewer, and have every fault of every program and sink", () => {
    const kinds = (cases: readonly Case[]) =>
      new Set(cases.map(({ program, endpoint, fault }) => `${program}, ${endpoint}: ${fault}`));
    const some = quick(CASES);
    expect(some.length).toBeLessThan(CASES.length / 2 + 100);
    expect(kinds(some)).toEqual(kinds(CASES));
  });
});

describe("bun run faults", () => {
  const tools = ["qemu-img", "qemu-nbd", "nbdcopy"].filter((tool) => Bun.which(tool) === null);
  const why = tools.length > 0 ? ` (needs ${tools.join(", ")})` : "";

  test.skipIf(tools.length > 0)(`injects faults, and tells what came of them${why}`, async () => {
    using folder = tempFolder();
    const only = [
      "ours, exec: command: none",
      "ours, exec: pipeline: SIGTERM to the server, middle",
      "ours, FIFO: reader is killed, middle",
      "ours, read= exec:: source fails at its end",
      // What it is known to do: the harness can tell.
      "nbdcopy, stdin pipe: source ends early, with 0, middle",
      "nbdcopy, stdout pipe: NBD server is killed, middle",
      "qemu-img, ",
    ].flatMap((text) => ["--only", text]);
    await using running = start([
      process.execPath,
      "bench/faults/main.ts",
      ...only,
      "--results",
      folder.path,
    ]);
    const { status, stderr } = await running.ended();
    expect(stderr).not.toContain("NOT INJECTED");
    expect(status, stderr).toBe(0);
    const { programs } = JSON.parse(readFileSync(folder.file("faults.json"), "utf8")) as Stored;
    const { ours = {}, nbdcopy = {} } = programs;
    expect(ours[CONTROL]).toEqual([
      ["exec: command", "-", 0, true, "an ordinary end", "ok"],
      ["exec: command", "our client", 0, true, "an ordinary end", "ok"],
      ["exec: command", "spool=", 0, true, "an ordinary end", "ok"],
      ["exec: command", "--hold", 0, true, "an ordinary end", "ok"],
      ["exec: command", "our client, --hold", 0, true, "an ordinary end", "ok"],
    ]);
    expect(ours["SIGTERM to the server"]).toEqual([
      ["exec: pipeline", "middle", 143, false, "killed", "ok"],
    ]);
    // The client may see it before the server does, or after.
    const [killed] = ours["reader is killed"] ?? [];
    expect([1, 4]).toContain(killed?.[2] ?? 0);
    expect(killed?.slice(3)).toEqual([false, "gone", "ok"]);
    expect(ours["source fails at its end"]).toEqual([
      ["read= exec:", "-", 1, false, "an error", "ok"],
    ]);
    expect(nbdcopy["source ends early, with 0"]).toEqual([
      ["stdin pipe", "middle", 0, false, "nothing", "false success"],
    ]);
    expect(nbdcopy["NBD server is killed"]).toEqual([
      ["stdout pipe", "middle", 1, false, "an ordinary end", "misled"],
    ]);
    expect(readFileSync(folder.file("faults.md"), "utf8")).toContain(
      "| source ends early, with 0 |",
    );
  });

  test.skipIf(tools.length > 0)(`counts no fault that has come too late${why}`, async () => {
    using folder = tempFolder();
    const scene = { scratch: folder.path, disk: await makeDisk(folder.path), peer: undefined };
    const late: Case = {
      ...{ program: "ours", endpoint: "FIFO", fault: "client is killed", at: "after the end" },
      plan: {
        direction: "write",
        client: {
          ...{ kind: "raw", by: "run" },
          turn: { at: SIZE + PIECE, stage: "between requests", deed: "wait" },
        },
        acts: [{ when: "client", signal: "SIGKILL", to: "client" }],
      },
    };
    const seen = await trial(late, scene);
    expect(seen).toMatchObject({ injected: false, status: 0, whole: true });
    const leaves: Case = {
      ...late,
      plan: {
        ...{ direction: "write", client: { kind: "copy" } },
        turn: { at: SIZE + 1, deed: "kill" },
      },
    };
    expect(await trial(leaves, scene)).toMatchObject({ injected: false, status: 0, whole: true });
  });

  test("refuses a program that it does not know", async () => {
    await using running = start([
      process.execPath,
      "bench/faults/main.ts",
      "--subjects",
      "ours,cat",
    ]);
    const { status, stderr } = await running.ended();
    expect([status, stderr]).toEqual([1, "there is no program cat\n"]);
  });
});
