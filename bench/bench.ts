/** `bun run bench`: how fast a stream is, beside nbdkit's streaming plugin and without any server. */
import { join } from "node:path";
import { type Peer, peerOrNothing } from "./programs/peer.ts";
import { type Subject, subjects } from "./programs/subjects.ts";
import type { Result } from "./report/figures.ts";
import { machine } from "./report/machine.ts";
import { markdownList } from "./report/markdown.ts";
import { cpuTable, page, ratioTable, secondsTable } from "./report/page.ts";
import { plot } from "./report/plot.ts";
import { type Measured, readStore, type Run, writeFormatted, writeStore } from "./report/store.ts";
import { rows } from "./rows/index.ts";
import { MIB, type Row } from "./rows/row.ts";
import { roomFor, BenchFiles } from "./run/files.ts";
import { options, USAGE } from "./run/options.ts";
import { shuffled } from "./run/order.ts";
import { readWhole, withScratch } from "./run/scratch.ts";
import { atOnce, type Ends, type Outcome } from "./run/transfer.ts";

/** Those whose programs are there; says which are not. */
function possible(chosen: Row[]): Row[] {
  return chosen.filter((row) => {
    if (row.needs === undefined || Bun.which(row.needs) !== null) return true;
    console.error(`${row.name} is left out: there is no ${row.needs}`);
    return false;
  });
}

async function measure(
  row: Row,
  { files, peer, runs }: { files: BenchFiles; peer: Peer | undefined; runs: number },
): Promise<Pick<Measured, "bytes" | "runs">> {
  const programs = subjects(row, files, peer);
  const { path, bytes } = files.data(row);
  const all = { row, files, bytes };
  const found: Measured["runs"] = {};
  // Makes sure that a program that is fast has not just moved less, and warms it up.
  for (const subject of programs) {
    const outcome = await once(subject.checked, all);
    subject.verify?.(outcome);
    say(row, subject, "check: everything is right");
  }
  for (let round = 1; round <= runs; round++) {
    for (const subject of shuffled(programs)) {
      // A kernel that reclaims early would otherwise make one of them wait for the disk.
      await readWhole(path);
      const run = kept(await once(subject.measured, all));
      (found[subject.column] ??= []).push(run);
      say(row, subject, `${round} of ${runs}: ${spelled(run, bytes * (row.streams ?? 1))}`);
    }
  }
  return { bytes, runs: found };
}

interface Stream {
  row: Row;
  files: BenchFiles;
  bytes: number;
}

function once(ends: Ends, { row, files, bytes }: Stream): Promise<Outcome> {
  const streams = row.streams ?? 1;
  const limitSeconds = 60 + (streams * bytes) / (16 * MIB);
  return atOnce({ ...ends, folder: files.folder, limitSeconds }, streams);
}

function kept({ output: _, ...run }: Outcome): Run {
  return { ...run, seconds: Math.round(run.seconds * 1e4) / 1e4, ...roundedCpu(run) };
}

function roundedCpu({ cpuSeconds, serverCpuSeconds }: Run): Partial<Run> {
  const rounded = (value: number) => Math.round(value * 1e3) / 1e3;
  return {
    cpuSeconds: rounded(cpuSeconds),
    ...(serverCpuSeconds !== undefined && { serverCpuSeconds: rounded(serverCpuSeconds) }),
  };
}

function spelled({ seconds, cpuSeconds, serverCpuSeconds, serverPeakBytes }: Run, bytes: number) {
  const said = [
    `${seconds.toFixed(2)} s`,
    `${(bytes / MIB / seconds).toFixed(0)} MiB/s`,
    `CPU ${cpuSeconds.toFixed(2)} s`,
  ];
  if (serverCpuSeconds !== undefined) said.push(`of the server ${serverCpuSeconds.toFixed(2)} s`);
  if (serverPeakBytes !== undefined) said.push(`peak ${(serverPeakBytes / MIB).toFixed(1)} MiB`);
  return said.join(", ");
}

function say(row: Row, subject: Subject, what: string): void {
  console.error(`${row.name}, ${subject.column}, ${what}`);
}

/** Puts a row into the results and makes the page anew, so that what is interrupted is not lost. */
async function save(folder: string, { row, ...measured }: Result): Promise<void> {
  const json = join(folder, "latest.json");
  const store = await readStore(json);
  store.rows[row.name] = measured;
  await writeStore(json, store, rows);
  const results = rows.flatMap((each) => {
    const its = store.rows[each.name];
    return its === undefined ? [] : [{ row: each, ...its }];
  });
  await Bun.write(join(folder, "latest.svg"), plot(results));
  await writeFormatted(join(folder, "latest.md"), page(results, "latest.svg"));
}

async function main(): Promise<void> {
  const wanted = options(process.argv.slice(2));
  if (wanted === undefined) return console.log(USAGE);
  const chosen = possible(wanted.chosen);
  const peer = await peerOrNothing();
  const facts = await machine(["qemu-img", "nbdcopy", "fio"], peer);
  console.error(facts.join("\n"));
  const results = await withScratch(roomFor(wanted.mib, chosen), async (folder) => {
    const files = await BenchFiles.make(folder, wanted.mib);
    const found: Result[] = [];
    for (const [index, row] of chosen.entries()) {
      await files.prepare(row, chosen.slice(index + 1));
      const result = { row, facts, ...(await measure(row, { files, peer, runs: wanted.runs })) };
      if (wanted.results !== undefined) await save(wanted.results, result);
      found.push(result);
    }
    return found;
  });
  const tables = [ratioTable(results), secondsTable(results), cpuTable(results)];
  console.log([...tables, markdownList(facts)].join("\n"));
  console.error(`Saved: ${wanted.results ?? "nothing"}`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
