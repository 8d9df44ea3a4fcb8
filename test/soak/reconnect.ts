/**
 * `bun run soak:reconnect [N] [--seed S] [--only K]`: qemu-img copies through a link that breaks, N
 * times with other conditions. Each copy has to come out whole. Exits with 1 if one does not.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { mkfifo } from "../../ffi/pipe.ts";
import { makeCertificates } from "../support/certificates.ts";
import { pseudoRandom } from "../support/images.ts";
import { bounded, command, type Running, start, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { type Break, type Place, BreakingLink } from "./breaking-link.ts";

const MiB = 1 << 20;

/** The disk: data, zeroes, a hole, and data again. */
const PARTS = [
  [0, 9 * MiB + 12_345],
  [14 * MiB, 3 * MiB],
  [20 * MiB, 4 * MiB],
] as const;
const SIZE = 26 * MiB;

/** Seconds that a client has to come back; the copies take less than a minute. */
const RECONNECT = 20;

interface Conditions {
  readonly transport: "unix" | "tcp" | "tls";
  readonly requests: number;
  readonly rate: number;
  readonly window: boolean;
  readonly how: Break;
  /** How often the link breaks, and after how many bytes each time. */
  readonly breaks: readonly number[];
}

/** The same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function conditionsOf(seed: number): Conditions {
  const random = randomOf(seed);
  const pick = <T>(...all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  return {
    transport: pick("unix", "unix", "tcp", "tcp", "tls"),
    requests: pick(1, 4, 8, 16),
    rate: pick(10, 25, 50, 100, 400) * 1e6,
    window: pick(true, false),
    how: pick<Break>("closed", "dead"),
    // The first bytes are negotiation, which qemu-img does not repeat.
    breaks: Array.from({ length: pick(1, 2, 3) }, () => 4096 + Math.floor(random() * 12 * MiB)),
  };
}

/** @returns what is wrong, or undefined */
async function copy(
  conditions: Conditions,
  disk: Buffer,
  source: string,
): Promise<string | undefined> {
  const { transport, requests, rate, window, how, breaks } = conditions;
  using folder = tempFolder();
  const [fifo, out, own, front] = ["fifo", "out", "own.sock", "front.sock"].map(folder.file) as [
    string,
    string,
    string,
    string,
  ];
  mkfifo(fifo, 0o600);
  const tls = transport === "tls" ? certificates(folder.file("pki")) : [];
  await using reader = start([
    process.execPath,
    join(import.meta.dir, "slow-reader.ts"),
    fifo,
    out,
    String(rate),
  ]);
  await using server = startProgram([
    "serve",
    `pipe=${fifo}`,
    `size=${SIZE}`,
    `--reconnect=${RECONNECT}`,
    ...(window ? ["window=96M"] : []),
    ...(transport === "unix" ? ["-U", own] : ["-p", "0"]),
    ...tls,
  ]);
  await server.saying(/listening on/);
  const place: Place =
    transport === "unix" ? { path: own } : { host: "127.0.0.1", port: portOf(server) };
  await using proxy = new BreakingLink({
    listen: transport === "unix" ? { path: front } : { host: "127.0.0.1", port: 0 },
    server: place,
    fate: (n) => (n < breaks.length ? { after: breaks[n] as number, how } : undefined),
  });
  const port = await proxy.listen();
  const address =
    transport === "unix"
      ? `server.type=unix,server.path=${front}`
      : `server.type=inet,server.host=127.0.0.1,server.port=${port}`;
  const secure = transport === "tls" ? ",tls-creds=tls0" : "";
  await using client = start([
    "qemu-img",
    "convert",
    "-n",
    "-m",
    String(requests),
    "-f",
    "raw",
    source,
    ...(transport === "tls"
      ? ["--object", `tls-creds-x509,id=tls0,dir=${folder.file("pki/all")},endpoint=client`]
      : []),
    "--target-image-opts",
    `driver=nbd,${address}${secure},reconnect-delay=${RECONNECT}`,
  ]);
  const copied = await client.ended();
  const served = await server.ended();
  await reader.ended();
  const problems = [
    copied.status === 0 ? "" : `qemu-img ${copied.status}: ${copied.stderr.trim()}`,
    served.status === 0 ? "" : `serve ${served.status}: ${served.stderr.trim().split("\n").at(-1)}`,
    readFileSync(out).equals(disk) ? "" : "what came out is not the disk",
    proxy.broken > 0 ? "" : "the link was not broken",
  ].filter(Boolean);
  return problems.length === 0 ? undefined : problems.join("; ");
}

function portOf({ stderr }: Running): number {
  return Number(/nbds?:\/\/127\.0\.0\.1:([0-9]+)/.exec(stderr)?.[1]);
}

function certificates(folder: string): string[] {
  mkdirSync(folder);
  const { all } = makeCertificates(folder);
  return ["--tls=require", `--tls-certificates=${all}`];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: "string", default: "1" }, only: { type: "string" } },
});
const copies = Number(positionals[0] ?? 20);
const disk = Buffer.alloc(SIZE);
for (const [i, [at, length]] of PARTS.entries()) pseudoRandom(length, i + 1).copy(disk, at);
using folder = tempFolder();
const source = folder.file("disk.raw");
writeFileSync(source, disk);
await command(["qemu-img", "--version"]);

const numbers =
  values.only === undefined ? Array.from({ length: copies }, (_, i) => i) : [Number(values.only)];
let whole = 0;
let slowest = { number: -1, seconds: 0 };
for (const number of numbers) {
  const conditions = conditionsOf(Number(values.seed) * 100_000 + number);
  const begun = performance.now();
  const problem = await bounded(copy(conditions, disk, source), "a copy").catch((error) =>
    String(error),
  );
  const seconds = (performance.now() - begun) / 1000;
  if (seconds > slowest.seconds) slowest = { number, seconds };
  if (problem === undefined) whole++;
  else console.log(`${number} ${JSON.stringify(conditions)}: ${problem}`);
}
console.log(
  `${numbers.length} interrupted copies: ${whole} whole; the slowest, --only ${slowest.number}, took ${slowest.seconds.toFixed(1)} s`,
);
process.exit(whole === numbers.length ? 0 : 1);
