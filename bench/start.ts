/**
 * `bun bench/start.ts [--runs N] [--results FOLDER]`: how long does a server take until it talks to its
 * first client, and how large is it then?
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Peer, peerOrNothing } from "./programs/peer.ts";
import { MAIN } from "./programs/servers.ts";
import { machine } from "./report/machine.ts";
import { type Program, type Start, startPage, type Starts } from "./report/start.ts";
import { writeFormatted } from "./report/store.ts";
import { MIB } from "./rows/row.ts";
import { compileEmpty, compileOurs } from "./run/compiled.ts";
import { install, type Installed } from "./run/installed.ts";
import { RESULTS } from "./run/options.ts";
import { shuffled } from "./run/order.ts";
import { positive } from "./run/positive.ts";
import { command, withScratch } from "./run/scratch.ts";

/** NBDMAGIC, IHAVEOPT and the handshake flags. */
const GREETING = 18;
/** Two compiled programs with Bun in them, and a copy of the checkout. */
const ROOM = 512 * MIB;
const RETRY_MS = 1;
const LIMIT_MS = 10_000;

interface Measurable {
  program: Program;
  once(): Promise<Start>;
}

type Environment = Record<string, string | undefined>;

async function measurables(folder: string, peer: Peer | undefined): Promise<Measurable[]> {
  const [fifo, socket] = [join(folder, "stream.fifo"), join(folder, "nbd.sock")];
  await command(["mkfifo", "-m", "600", fifo]);
  const serve = ["serve", `pipe=${fifo}`, "size=1M", "-U", socket];
  const server = (program: Program, cmd: string[], env: Environment = process.env) => ({
    program,
    once: () => startServer(cmd, socket, env),
  });
  const compiled = await compileOurs(folder);
  const empty = await compileEmpty(folder);
  const installed = await installedOrNothing(folder);
  const found = [
    server("source", [process.execPath, MAIN, ...serve]),
    server("compiled", [compiled, ...serve]),
    ...(installed === undefined
      ? []
      : [server("package", [installed.program, ...serve], installed.env)]),
    { program: "empty" as const, once: () => startEmpty(empty) },
  ];
  if (peer === undefined) return found;
  const theirs = ["-f", "-U", socket, peer.plugin, `pipe=${fifo}`, "size=1M"];
  return [...found, server("nbdkit", [peer.nbdkit, ...theirs])];
}

/** Its dependencies may be neither in Bun's cache nor to be had. */
async function installedOrNothing(folder: string): Promise<Installed | undefined> {
  try {
    return await install(folder);
  } catch (error) {
    console.error(`The npm package is left out: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}

/** Until the greeting has come. */
async function startServer(cmd: string[], socket: string, env: Environment): Promise<Start> {
  rmSync(socket, { force: true });
  const started = performance.now();
  const child = Bun.spawn(cmd, { env, stdio: ["ignore", "ignore", "ignore"] });
  try {
    const deadline = started + LIMIT_MS;
    while (!(await greeted(socket))) {
      if (child.exitCode !== null) throw new Error(`${cmd[0]} ended with ${child.exitCode}`);
      if (performance.now() > deadline) throw new Error(`${cmd[0]} does not answer`);
      await Bun.sleep(RETRY_MS);
    }
    return { ms: performance.now() - started, peakBytes: peakBytes(child.pid) };
  } finally {
    child.kill();
    await child.exited;
  }
}

/** Until its Worker has answered and it has ended; once more, it stays to be looked at. */
async function startEmpty(program: string): Promise<Start> {
  const started = performance.now();
  const child = Bun.spawn([program], { stdio: ["ignore", "ignore", "ignore"] });
  if ((await child.exited) !== 0) throw new Error(`the empty program ended with ${child.exitCode}`);
  const ms = performance.now() - started;
  const staying = Bun.spawn([program, "--stay"], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    const { done } = await staying.stdout.getReader().read();
    if (done) throw new Error("the empty program does not stay");
    return { ms, peakBytes: peakBytes(staying.pid) };
  } finally {
    staying.kill();
    await staying.exited;
  }
}

function peakBytes(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  if (kib === undefined) throw new Error(`process ${pid} has ended`);
  return Number(kib) * 1024;
}

/** @returns whether somebody listens there, after the greeting */
async function greeted(unix: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  let received = 0;
  try {
    const socket = await Bun.connect({
      unix,
      socket: {
        data(_, chunk) {
          received += chunk.length;
          if (received >= GREETING) resolve(true);
        },
        close: () => resolve(false),
        error: () => resolve(false),
      },
    });
    const answer = await promise;
    socket.end();
    return answer;
  } catch {
    return false;
  }
}

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "15" },
    results: { type: "string", default: RESULTS },
  },
});
const runs = positive("--runs", values.runs);
const peer = await peerOrNothing();
const facts = await machine([], peer);
const starts = await withScratch(ROOM, async (folder) => {
  const all = await measurables(folder, peer);
  // The first of each brings its files into the page cache.
  for (const { once } of all) await once();
  const found: Starts = {};
  for (let run = 0; run < runs; run++) {
    for (const { program, once } of shuffled(all)) (found[program] ??= []).push(await once());
  }
  return found;
});
const text = startPage(starts, facts);
console.log(text);
await writeFormatted(join(values.results, "start.md"), text);
