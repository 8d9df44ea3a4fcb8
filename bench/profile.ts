/**
 * `bun bench/profile.ts [--row NAME]... [--size MiB]`: where does the time go? By perf-record(1), for
 * the rows that have missed a goal, or those that are named.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { peerOrNothing } from "./programs/peer.ts";
import { type Subject, subjects } from "./programs/subjects.ts";
import { missed } from "./report/figures.ts";
import { machine } from "./report/machine.ts";
import { markdownList, markdownTable } from "./report/markdown.ts";
import { FIELDS, type Sample, samples } from "./report/perf.ts";
import { readStore } from "./report/store.ts";
import { rows } from "./rows/index.ts";
import type { Row } from "./rows/row.ts";
import { positive } from "./run/positive.ts";
import { BenchFiles, roomFor } from "./run/files.ts";
import { command, withScratch } from "./run/scratch.ts";
import { transfer } from "./run/transfer.ts";

const RESULTS = join(import.meta.dir, "results");
const PROFILED = ["ours", "nbdkit", "limit"];

/** Samples a second: not a divisor of the timer's rate, or both would beat. */
const RATE = 1999;
/** What a call takes at least, of all that its process does, to be named. */
const WORTH_NAMING = 0.05;

const CLIENTS = /^(nbdcopy|qemu-img|fio)/;

interface Profile {
  seconds: number;
  client: Sample[];
  server: Sample[];
}

async function profile({ measured }: Subject, folder: string): Promise<Profile> {
  const data = join(folder, "perf.data");
  const record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", String(RATE), "-g", "-o", data];
  await transfer({
    ...measured,
    program: (places) => [...record, "--", ...measured.program(places)],
    folder,
    limitSeconds: 600,
  });
  const all = samples(await command(["perf", "script", "-i", data, "-F", FIELDS]));
  const times = all.map(({ at }) => at);
  return {
    // perf(1) itself takes its time to end.
    seconds: Math.max(...times) - Math.min(...times),
    client: all.filter(({ comm }) => CLIENTS.test(comm)),
    server: all.filter(({ comm }) => !CLIENTS.test(comm)),
  };
}

/** A line of the table. */
function line(column: string, { seconds, client, server }: Profile): string[] {
  const busy = client.length / RATE;
  return [
    column,
    seconds.toFixed(2),
    `${busy.toFixed(2)} (${percent(busy / seconds)})`,
    calls(client),
    (server.length / RATE).toFixed(2),
    calls(server),
  ];
}

function calls(of: readonly Sample[]): string {
  return [...Map.groupBy(of, ({ call }) => call)]
    .map(([call, those]) => ({ call, share: those.length / of.length }))
    .filter(({ share }) => share >= WORTH_NAMING)
    .toSorted((a, b) => b.share - a.share)
    .map(({ call, share }) => `${call} ${percent(share)}`)
    .join(", ");
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

async function chosen(names: readonly string[] | undefined): Promise<Row[]> {
  if (names !== undefined) return rows.filter((row) => names.includes(row.name));
  const store = await readStore(join(RESULTS, "latest.json"));
  return rows.filter((row) => {
    const its = store.rows[row.name];
    return its !== undefined && missed({ row, ...its });
  });
}

const HEAD = [
  "program",
  "elapsed, s",
  "client runs, s (of elapsed)",
  "in it",
  "server runs, s",
  "in it",
];

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      row: { type: "string", multiple: true },
      size: { type: "string", default: "4096" },
    },
  });
  const wanted = await chosen(values.row);
  const peer = await peerOrNothing();
  const mib = positive("--size", values.size);
  const tables = await withScratch(roomFor(mib, wanted), async (folder) => {
    const files = await BenchFiles.make(folder, mib);
    const found: string[] = [];
    for (const [index, row] of wanted.entries()) {
      await files.prepare(row, wanted.slice(index + 1));
      const lines: string[][] = [];
      for (const subject of subjects(row, files, peer)) {
        if (!PROFILED.includes(subject.column)) continue;
        lines.push(line(subject.column, await profile(subject, folder)));
      }
      found.push(`## \`${row.name}\`: ${row.title}\n\n${markdownTable(HEAD, lines)}`);
    }
    return found;
  });
  const text = `# Where the time goes

Of rows that have missed a goal: one run of each program under perf(1), CPU time by system call ("user" is outside of all, "compiler" Bun's own for the program).
Where the client runs nearly all of the time, it is what limits the row, whatever the server does.

${tables.join("\n")}
${markdownList(await machine(["nbdcopy", "qemu-img", "fio"], peer))}`;
  console.log(text);
  if (values.row === undefined) await Bun.write(join(RESULTS, "profile.md"), text);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
