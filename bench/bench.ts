/** `bun run bench`: how fast a stream is, beside nbdkit's streaming plugin and a plain pipe. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fetchPeer, NoPeerError, type Peer } from "./peer.ts";
import { mibPerSecond, page, type Result } from "./report.ts";
import { type Column, type Row, rows, type Scene, type Subject } from "./rows.ts";
import { MIB, randomImage, readWhole, withScratch } from "./scratch.ts";
import { transfer } from "./transfer.ts";

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
  const subjects = row.subjects(scene);
  const seconds = new Map<Column, number[]>(subjects.map(({ column }) => [column, []]));
  for (const subject of subjects) await warmUp(row, subject, folder);
  for (let round = 1; round <= runs; round++) {
    for (const subject of subjects) {
      // A kernel that reclaims early would otherwise make one of them wait for the disk.
      await readWhole(scene.image);
      const took = await once(subject, folder, (fifo) => [
        "sh",
        "-c",
        'exec cat "$1" > /dev/null',
        "sh",
        fifo,
      ]);
      seconds.get(subject.column)?.push(took.seconds);
      const speed = mibPerSecond(subject.bytes, took.seconds);
      say(row, subject, `${round} of ${runs}: ${took.seconds.toFixed(2)} s, ${speed}`);
    }
  }
  return { row, seconds };
}

/** Makes sure that a program that is fast has not just written less. */
async function warmUp(row: Row, subject: Subject, folder: string): Promise<void> {
  const { output } = await once(subject, folder, (fifo) => ["wc", "-c", fifo]);
  const bytes = Number.parseInt(output, 10);
  if (bytes !== subject.bytes) {
    throw new Error(`${row.name}, ${subject.column}: ${bytes} bytes came out of ${subject.bytes}`);
  }
  say(row, subject, `warm-up: ${bytes} bytes, as it should be`);
}

function once(subject: Subject, folder: string, reader: (fifo: string) => string[]) {
  return transfer({
    folder,
    writer: (fifo) => subject.command(fifo),
    ...(subject.env === undefined ? {} : { env: subject.env }),
    reader,
    limitSeconds: 60 + subject.bytes / (16 * MIB),
  });
}

function say(row: Row, subject: Subject, what: string): void {
  console.error(`${row.name}, ${subject.column}, ${what}`);
}

async function main(): Promise<void> {
  const wanted = options(process.argv.slice(2));
  if (wanted === undefined) return console.log(USAGE);
  const { runs, mib, chosen, save } = wanted;
  const peer = await peerOrNothing();
  // The image, and what it is made of.
  const results = await withScratch((mib + 64) * MIB, async (folder) => {
    const scene: Scene = { image: await randomImage(folder, mib), size: mib * MIB, peer };
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
