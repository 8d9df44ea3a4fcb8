/** `bun run bench`: how fast a stream is, beside nbdkit's streaming plugin and a plain pipe. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fetchPeer, NoPeerError, type Peer } from "./peer.ts";
import { mibPerSecond, page, type Result } from "./report.ts";
import { type Row, rows } from "./rows.ts";
import { makeScene, roomFor, type Scene } from "./scene.ts";
import { MIB, readWhole, withScratch } from "./scratch.ts";
import { type Column, type Subject, subjects } from "./subjects.ts";
import { type Ends, type Outcome, transfer } from "./transfer.ts";

const RESULTS = join(import.meta.dir, "results/latest.md");

const USAGE = `Usage: bun run bench [--runs N] [--size MiB] [--row NAME]...

  --runs N     measured runs of each program (default: 5)
  --size MiB   size of the disk image (default: 4096)
  --row NAME   only this row, and only on stdout: ${rows.map((row) => row.name).join(", ")}
`;

interface Options {
  runs: number;
  mib: number;
  chosen: Row[];
  save: boolean;
}

function options(args: string[]): Options | undefined {
  const { values } = parseArgs({
    args,
    options: {
      runs: { type: "string", default: "5" },
      size: { type: "string", default: "4096" },
      row: { type: "string", multiple: true },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const chosen = values.row?.map((name) => {
    const row = rows.find((candidate) => candidate.name === name);
    if (row === undefined) throw new Error(`there is no row ${name}`);
    return row;
  });
  return {
    runs: positive("--runs", values.runs),
    mib: positive("--size", values.size),
    chosen: chosen ?? rows,
    save: chosen === undefined,
  };
}

function positive(name: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error(`${name} wants a number above 0, not ${text}`);
  return Number(text);
}

async function peerOrNothing(): Promise<Peer | undefined> {
  try {
    return await fetchPeer();
  } catch (error) {
    if (!(error instanceof NoPeerError)) throw error;
    console.error(`No nbdkit of Debian 11, so no column for it: ${error.message}`);
    return undefined;
  }
}

async function measure(row: Row, scene: Scene, folder: string, runs: number): Promise<Result> {
  const programs = subjects(row, scene);
  const outcomes = new Map<Column, Outcome[]>(programs.map(({ column }) => [column, []]));
  // Makes sure that a program that is fast has not just moved less, and warms it up.
  for (const subject of programs) {
    await once(subject, subject.checked, folder);
    say(row, subject, "check: everything has arrived");
  }
  for (let round = 1; round <= runs; round++) {
    for (const subject of programs) {
      // A kernel that reclaims early would otherwise make one of them wait for the disk.
      await readWhole(scene.data[row.data].path);
      const outcome = await once(subject, subject.measured, folder);
      outcomes.get(subject.column)?.push(outcome);
      const { seconds, cpuSeconds } = outcome;
      const speed = mibPerSecond(subject.bytes, seconds);
      const took = `${seconds.toFixed(2)} s, ${speed}, CPU ${cpuSeconds.toFixed(2)} s`;
      say(row, subject, `${round} of ${runs}: ${took}`);
    }
  }
  return { row, outcomes };
}

function once({ bytes }: Subject, ends: Ends, folder: string): Promise<Outcome> {
  return transfer({ ...ends, folder, limitSeconds: 60 + bytes / (16 * MIB) });
}

function say(row: Row, subject: Subject, what: string): void {
  console.error(`${row.name}, ${subject.column}, ${what}`);
}

async function main(): Promise<void> {
  const wanted = options(process.argv.slice(2));
  if (wanted === undefined) return console.log(USAGE);
  const { runs, mib, chosen, save } = wanted;
  const peer = await peerOrNothing();
  const results = await withScratch(roomFor(mib, chosen), async (folder) => {
    const scene = await makeScene(folder, { mib, chosen, peer });
    const measured: Result[] = [];
    for (const row of chosen) measured.push(await measure(row, scene, folder, runs));
    return measured;
  });
  const text = await page(results, { mib, runs, peer });
  console.log(text);
  if (save) await Bun.write(RESULTS, text);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
