/** `bun run faults`: the same faults, injected into programs that stream a disk, and what comes of it. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { peerOrNothing } from "../programs/peer.ts";
import { machine } from "../report/machine.ts";
import { writeFormatted } from "../report/store.ts";
import { positive } from "../run/positive.ts";
import { withScratch } from "../run/scratch.ts";
import { type Case, isKnowable, nameOf, type Program, PROGRAMS } from "./case.ts";
import { CASES, quick } from "./cases/index.ts";
import { judge } from "./judge.ts";
import { page, summary } from "./report/page.ts";
import { stored, verdictOf } from "./report/stored.ts";
import { type Entry, entryOf, isControl, isGood } from "./report/totals.ts";
import { makeDisk } from "./run/disk.ts";
import { Place } from "./run/place.ts";
import { detachAll } from "./run/sinks.ts";
import { missing, type Setup, type Seen, trial } from "./run/trial.ts";

const USAGE = `Usage: bun run faults [--subjects LIST] [--quick] [--only TEXT]... [--jobs N] [--results FOLDER] [--list]

  --subjects LIST   only these programs, with commas between: ${PROGRAMS.join(",")}
  --quick           one position of each fault
  --only TEXT       only cases whose names, as --list has them, have this in them; or another --only
  --jobs N          runs at a time (default: 3)
  --results FOLDER  where the page goes (default: bench/results if it is of all cases, otherwise nowhere)
  --list            only the names of the cases

Exits with 1 if a fault is a false success or a hang of ours, or if a stream without a fault is not whole.
`;

const TRIES = 3;
const ROOM = 64 * 2 ** 20;

interface Options {
  cases: readonly Case[];
  jobs: number;
  results: string | undefined;
  list: boolean;
}

function options(args: string[]): Options | undefined {
  const { values } = parseArgs({
    args,
    options: {
      subjects: { type: "string" },
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [""] },
      jobs: { type: "string", default: "3" },
      results: { type: "string" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const programs = (values.subjects?.split(",") ?? PROGRAMS) as readonly Program[];
  const unknown = programs.find((program) => !PROGRAMS.includes(program));
  if (unknown !== undefined) throw new Error(`there is no program ${unknown}`);
  const some = values.quick ? quick(CASES) : CASES;
  const cases = some.filter(
    (one) =>
      programs.includes(one.program) && values.only.some((text) => nameOf(one).includes(text)),
  );
  if (cases.length === 0) throw new Error("there is no such case");
  const all = cases.length === CASES.length ? join(import.meta.dir, "../results") : undefined;
  const { results = all, list } = values;
  return { cases, jobs: positive("--jobs", values.jobs), results, list };
}

/** A fault that has come too late is tried again. */
async function entryFor(one: Case, setup: Setup): Promise<Entry> {
  let seen: Seen | undefined;
  let why = "";
  for (let tries = 1; tries <= TRIES; tries++) {
    try {
      seen = await trial(one, setup);
      if (seen.injected) return entryOf(one, tries, { ...seen, ...judge(seen, isKnowable(one)) });
    } catch (error) {
      why = error instanceof Error ? error.message : String(error);
    }
  }
  return entryOf(one, TRIES, undefined, why || (seen?.said ?? ""));
}

/** Runs so many at a time. @returns what came of them, in their order */
async function entries(cases: readonly Case[], jobs: number, setup: Setup): Promise<Entry[]> {
  const found: Entry[] = [];
  let next = 0;
  let done = 0;
  const work = async () => {
    for (let index = next++; index < cases.length; index = next++) {
      const one = cases[index] as Case;
      const result = await entryFor(one, setup);
      found[index] = result;
      console.error(`${++done} of ${cases.length}: ${nameOf(one)}: ${inShort(result)}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return found;
}

function inShort(entry: Entry): string {
  const { injected, status, whole, knows, said } = entry;
  const verdict = verdictOf(entry);
  if (!injected) return `${verdict.toUpperCase()} ${said ?? ""}`;
  const shown = verdict === "ok" || verdict === "misled" ? "" : verdict.toUpperCase();
  const bytes = whole ? "every byte" : "not every byte";
  const parts = [shown, `status ${status ?? "-"}`, bytes, knows, shown && said];
  return parts.filter((part) => part).join(", ");
}

/** Those for which everything is there; says which are not. */
function possible(cases: readonly Case[], peer: Setup["peer"]): Case[] {
  const left = new Map<string, number>();
  const kept = cases.filter((one) => {
    const tools = missing(one, peer).join(", ");
    if (tools === "") return true;
    left.set(tools, (left.get(tools) ?? 0) + 1);
    return false;
  });
  for (const [tools, count] of left) {
    console.error(`${count} cases are left out: they need ${tools}`);
  }
  return kept;
}

/** @returns whether all is as it should be */
async function main(): Promise<boolean> {
  const wanted = options(process.argv.slice(2));
  if (wanted === undefined || wanted.list) {
    console.log(wanted === undefined ? USAGE : wanted.cases.map(nameOf).join("\n"));
    return true;
  }
  const stop = () => {
    Place.endAll();
    detachAll();
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  const compares = wanted.cases.some(({ program }) => program === "nbdkit");
  const peer = compares ? await peerOrNothing() : undefined;
  const cases = possible(wanted.cases, peer);
  const found = await withScratch(ROOM, async (scratch) => {
    const setup = { scratch, peer, disk: await makeDisk(scratch) };
    return await entries(cases, wanted.jobs, setup);
  });
  const { results } = wanted;
  if (results !== undefined) {
    const facts = await machine(["qemu-img", "nbdcopy"], peer);
    await writeFormatted(join(results, "faults.json"), JSON.stringify(stored(found, facts)));
    await writeFormatted(join(results, "faults.md"), page(found, facts));
  }
  const programs = PROGRAMS.filter((program) => cases.some((one) => one.program === program));
  console.log(summary(found, programs));
  return found.every(isAsItShouldBe);
}

function isAsItShouldBe(entry: Entry): boolean {
  // That qemu-img cannot do it is what its control shows.
  if (isControl(entry)) return isGood(entry) || entry.program === "qemu-img";
  return entry.program !== "ours" || (!entry.falseSuccess && !entry.hung);
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
