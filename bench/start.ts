/** `bun bench/start.ts [--runs N]`: how long does a server take until it talks to its first client? */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Peer, peerOrNothing } from "./programs/peer.ts";
import { MAIN } from "./programs/servers.ts";
import { spread, spreadText } from "./report/figures.ts";
import { machine } from "./report/machine.ts";
import { markdownList, markdownTable } from "./report/markdown.ts";
import { MIB } from "./rows/row.ts";
import { positive } from "./run/positive.ts";
import { command, withScratch } from "./run/scratch.ts";

const RESULTS = join(import.meta.dir, "results/start.md");
const CHECKOUT = join(import.meta.dir, "..");

/** NBDMAGIC, IHAVEOPT and the handshake flags. */
const GREETING = 18;
/** A compiled program with Bun in it. */
const ROOM = 256 * MIB;
const RETRY_MS = 1;
const LIMIT_MS = 10_000;

interface Server {
  name: string;
  command(socket: string): string[];
}

/** Made outside of the checkout, as it would be where it is installed. */
async function compiled(folder: string): Promise<string> {
  const path = join(folder, "nbd-streaming");
  const build = [process.execPath, "run", "build", "--outfile", path];
  const child = Bun.spawn(build, { cwd: CHECKOUT, stdio: ["ignore", "ignore", "ignore"] });
  if ((await child.exited) !== 0 || !existsSync(path)) throw new Error("bun run build has failed");
  return path;
}

function servers(fifo: string, binary: string, peer: Peer | undefined): Server[] {
  const serve = (socket: string) => ["serve", `pipe=${fifo}`, "size=1M", "-U", socket];
  const ours = [
    {
      name: "ours, from source",
      command: (socket: string) => [process.execPath, MAIN, ...serve(socket)],
    },
    { name: "ours, compiled", command: (socket: string) => [binary, ...serve(socket)] },
  ];
  if (peer === undefined) return ours;
  const { nbdkit, plugin } = peer;
  const theirs = (socket: string) => [
    ...[nbdkit, "-f", "-U", socket, plugin, `pipe=${fifo}`, "size=1M"],
  ];
  return [...ours, { name: "nbdkit", command: theirs }];
}

/** @returns milliseconds from the start of the process until its greeting has come */
async function measure(server: Server, socket: string): Promise<number> {
  rmSync(socket, { force: true });
  const started = performance.now();
  const child = Bun.spawn(server.command(socket), { stdio: ["ignore", "ignore", "ignore"] });
  try {
    const deadline = started + LIMIT_MS;
    while (!(await greeted(socket))) {
      if (child.exitCode !== null) throw new Error(`${server.name} ended with ${child.exitCode}`);
      if (performance.now() > deadline) throw new Error(`${server.name} does not answer`);
      await Bun.sleep(RETRY_MS);
    }
    return performance.now() - started;
  } finally {
    child.kill();
    await child.exited;
  }
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

function page(times: Map<string, number[]>, facts: string[]): string {
  const theirs = times.get("nbdkit");
  const lines = [...times].map(([name, values]) => [
    name,
    spreadText(spread(values), 1),
    theirs === undefined || name === "nbdkit"
      ? "-"
      : spreadText(spread(values.map((value, round) => value / (theirs[round] ?? Number.NaN))), 1),
  ]);
  const runs = [...times.values()][0]?.length ?? 0;
  return `# Start

From the start of the process until its first client, which tries every millisecond, has the greeting. Medians of ${runs}
interleaved runs, and the smallest and the largest.

${markdownTable(["server", "ms", "ratio to nbdkit"], lines)}
${markdownList(facts)}`;
}

const { values } = parseArgs({ options: { runs: { type: "string", default: "15" } } });
const runs = positive("--runs", values.runs);
const peer = await peerOrNothing();
const times = await withScratch(ROOM, async (folder) => {
  const [fifo, socket] = [join(folder, "stream.fifo"), join(folder, "nbd.sock")];
  await command(["mkfifo", "-m", "600", fifo]);
  const all = servers(fifo, await compiled(folder), peer);
  const found = new Map<string, number[]>(all.map(({ name }) => [name, []]));
  // The first of each brings its files into the page cache.
  for (const server of all) await measure(server, socket);
  for (let run = 0; run < runs; run++) {
    for (const server of all) found.get(server.name)?.push(await measure(server, socket));
  }
  return found;
});
const text = page(times, await machine([], peer));
console.log(text);
await Bun.write(RESULTS, text);
