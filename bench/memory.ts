/** `bun bench/memory.ts`: does a long stream make the server grow? Exits with 1 if it does. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Sample } from "./ends/counter.ts";
import { MAIN } from "./programs/servers.ts";
import { machine } from "./report/machine.ts";
import { markdownList, markdownTable } from "./report/markdown.ts";
import { GIB, MIB } from "./rows/row.ts";
import { randomFile, withScratch } from "./run/scratch.ts";
import { transfer } from "./run/transfer.ts";

const RESULTS = join(import.meta.dir, "results/memory.md");
const COUNTER = join(import.meta.dir, "ends/counter.ts");

const FROM = 1;
const TO = 8;
/** More than that, so that the last sample is taken while the stream still flows. */
const TOTAL = 9;
const MAY_GROW = 10 * MIB;

/** What the server had resident after each GiB of one stream. */
async function measure(listen: string[]): Promise<Sample[]> {
  return await withScratch(GIB, async (folder) => {
    const raw = await randomFile(folder, GIB);
    const sources = Array<string>(TOTAL).fill(raw);
    const { output } = await transfer({
      folder,
      program: ({ stream }) => [
        ...[
          process.execPath,
          MAIN,
          "run",
          `pipe=${stream}`,
          `size=${TOTAL * GIB}`,
          ...listen,
          "--",
        ],
        ...["qemu-img", "convert", "-n", "-f", "raw", ...sources, "-O", "raw", "$nbd"],
      ],
      other: (fifo, server) => [process.execPath, COUNTER, fifo, String(server), String(GIB)],
      limitSeconds: 600,
    });
    const samples = output
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Sample);
    if (samples.length !== TOTAL || samples.at(-1)?.bytes !== TOTAL * GIB) {
      throw new Error(`the stream is not ${TOTAL} GiB long`);
    }
    return samples;
  });
}

type Growth = Omit<Sample, "bytes">;

function growth(samples: Sample[]): Growth {
  const [before, after] = [samples[FROM - 1], samples[TO - 1]];
  if (before === undefined || after === undefined) throw new Error("a sample is missing");
  return {
    resident: after.resident - before.resident,
    anonymous: after.anonymous - before.anonymous,
  };
}

function page(samples: Sample[], grown: Growth): string {
  const lines = samples.map(({ bytes, resident, anonymous }) => [
    `${bytes / GIB} GiB`,
    mib(resident),
    mib(anonymous),
  ]);
  return `# Resident size

Between ${FROM} GiB and ${TO} GiB of one stream: **${signed(grown.resident)} MiB** resident,
**${signed(grown.anonymous)} MiB** of it anonymous (allowed: ${MAY_GROW / MIB} MiB).

${markdownTable(["after", "resident, MiB", "of it anonymous, MiB"], lines)}
`;
}

function signed(bytes: number): string {
  return `${bytes < 0 ? "" : "+"}${mib(bytes)}`;
}

function mib(bytes: number): string {
  return (bytes / MIB).toFixed(1);
}

try {
  const { values } = parseArgs({ options: { tcp: { type: "boolean", default: false } } });
  const samples = await measure(values.tcp ? ["-p", "0"] : []);
  const grown = growth(samples);
  const text = page(samples, grown) + markdownList(await machine(["qemu-img"]));
  console.log(text);
  if (!values.tcp) await Bun.write(RESULTS, text);
  // The kernel may take pages of the program file away in the middle; growth must not hide in that.
  if (!(grown.resident <= MAY_GROW && grown.anonymous <= MAY_GROW)) {
    console.error(`It grew by more than ${mib(MAY_GROW)} MiB.`);
    process.exitCode = 1;
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
