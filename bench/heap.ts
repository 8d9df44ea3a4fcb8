/**
 * `bun bench/heap.ts [--size MiB]`: does a request leave garbage? The collector's own log says how
 * often it had to run, which is once for every so many bytes that have been allocated.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { DISCARD, fifoReader, fifoWriter } from "./programs/ends.ts";
import { MAIN } from "./programs/servers.ts";
import { machine } from "./report/machine.ts";
import { markdownList, markdownTable } from "./report/markdown.ts";
import { KIB, MIB } from "./rows/row.ts";
import { positive } from "./run/positive.ts";
import { randomFile, withScratch } from "./run/scratch.ts";
import { transfer } from "./run/transfer.ts";

const RESULTS = join(import.meta.dir, "results/heap.md");

/** A line for each collection; JavaScriptCore has it written by this option. */
const LOG = { BUN_JSC_logGC: "1" };
const COLLECTION = /bytes allocated this cycle: (\d+)/g;

/** Bytes that each of the two threads may allocate before the collector runs for it. */
const CYCLE = 8 * MIB;
const THREADS = 2;

interface Case {
  name: string;
  parameter: "pipe" | "read";
  requestSize: number;
}

const cases: Case[] = [
  { name: "WRITE, 4 KiB", parameter: "pipe", requestSize: 4 * KIB },
  { name: "WRITE, 64 KiB", parameter: "pipe", requestSize: 64 * KIB },
  { name: "READ, 4 KiB", parameter: "read", requestSize: 4 * KIB },
  { name: "READ, 64 KiB", parameter: "read", requestSize: 64 * KIB },
];

/** @returns bytes allocated at each collection */
async function collections({ parameter, requestSize }: Case, folder: string, raw: string) {
  const size = Bun.file(raw).size;
  const copy = `nbdcopy --connections=1 --request-size=${requestSize}`;
  const client = parameter === "pipe" ? `${copy} "$IMAGE" "$uri"` : `${copy} "$uri" null:`;
  await transfer({
    folder,
    program: ({ stream }) => [
      ...[process.execPath, MAIN, "run", `${parameter}=${stream}`, `size=${size}`, "--", client],
    ],
    env: { ...LOG, IMAGE: raw },
    other: parameter === "pipe" ? fifoReader(DISCARD) : fifoWriter(raw),
    limitSeconds: 600,
  });
  const log = readFileSync(join(folder, "stderr"), "utf8");
  if (!log.includes("[GC<")) throw new Error("the collector has not logged anything");
  return [...log.matchAll(COLLECTION)].map(([, bytes]) => Number(bytes));
}

try {
  const { values } = parseArgs({ options: { size: { type: "string", default: "4096" } } });
  const size = positive("--size", values.size) * MIB;
  const lines = await withScratch(size, async (folder) => {
    const raw = await randomFile(folder, size);
    const found: string[][] = [];
    for (const each of cases) {
      const collected = await collections(each, folder, raw);
      const allocated = collected.reduce((sum, bytes) => sum + bytes, THREADS * CYCLE);
      const requests = size / each.requestSize;
      const most = (allocated / requests).toFixed(0);
      found.push([each.name, String(requests), String(collected.length), most]);
    }
    return found;
  });
  const text = `# Garbage

How often the collector of JavaScriptCore ran in a stream, its start included, and how many bytes have been allocated for
each request at the most: all that it has counted, and ${CYCLE / MIB} MiB for each of the ${THREADS} threads that it may not have.

${markdownTable(["requests of", "requests", "collections", "bytes for each, at most"], lines)}
${markdownList(await machine(["nbdcopy"]))}`;
  console.log(text);
  await Bun.write(RESULTS, text);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
