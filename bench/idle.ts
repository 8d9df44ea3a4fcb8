/** `bun bench/idle.ts [--connections N] [--runs N] [--size MiB]`: do idle clients slow a stream? */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { IHAVEOPT, NBD_OPT_EXPORT_NAME } from "../src/protocol/constants.ts";
import { MAIN } from "./programs/servers.ts";
import { spread, spreadText } from "./report/figures.ts";
import { MIB } from "./rows/row.ts";
import { randomFile, withScratch } from "./run/scratch.ts";

/** Greeting, and the answer to EXPORT_NAME without its zeroes. */
const NEGOTIATED = 18 + 10;

/** Milliseconds for the server to see that nobody says anything any more. */
const SETTLE = 500;

/** A client that chooses the export, and then says nothing. */
async function idleClient(path: string): Promise<Disposable> {
  const words = Buffer.alloc(20);
  words.writeUInt32BE(3, 0);
  words.writeBigUInt64BE(IHAVEOPT, 4);
  words.writeUInt32BE(NBD_OPT_EXPORT_NAME, 12);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let received = 0;
  const socket = await Bun.connect({
    unix: path,
    socket: {
      data: (_, chunk) => {
        received += chunk.length;
        if (received >= NEGOTIATED) resolve();
      },
      close: () => reject(new Error("the server has closed an idle connection")),
    },
  });
  socket.write(words);
  await promise;
  return { [Symbol.dispose]: () => void socket.end() };
}

/** @returns seconds that nbdcopy took beside so many idle clients */
async function measure(folder: string, image: string, connections: number): Promise<number> {
  const [fifo, path] = [join(folder, "stream.fifo"), join(folder, "nbd.sock")];
  const listen = ["-U", path, "--max-connections", String(connections + 10)];
  const server = Bun.spawn([process.execPath, MAIN, "serve", `pipe=${fifo}`, ...listen], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  try {
    // The first it says is that it listens; the rest is small.
    const stderr = server.stderr.getReader();
    await stderr.read();
    const reader = Bun.spawn(["sh", "-c", 'exec cat "$0" > /dev/null', fifo]);
    using stack = new DisposableStack();
    for (let i = 0; i < connections; i++) stack.use(await idleClient(path));
    await Bun.sleep(SETTLE);
    const started = performance.now();
    const client = Bun.spawn(["nbdcopy", image, `nbd+unix:///?socket=${path}`]);
    if ((await client.exited) !== 0) throw new Error("nbdcopy has failed");
    const seconds = (performance.now() - started) / 1000;
    stack.dispose();
    const statuses = await Promise.all([server.exited, reader.exited]);
    if (statuses.some((status) => status !== 0)) throw new Error(`statuses ${statuses.join()}`);
    return seconds;
  } finally {
    server.kill("SIGKILL");
  }
}

const { values } = parseArgs({
  options: {
    connections: { type: "string", default: "500" },
    runs: { type: "string", default: "7" },
    size: { type: "string", default: "2048" },
  },
});
const size = Number(values.size) * MIB;
await withScratch(size, async (folder) => {
  const image = await randomFile(folder, size);
  await measure(folder, image, 0);
  const ratios: number[] = [];
  const times: [number, number][] = [];
  for (let run = 0; run < Number(values.runs); run++) {
    const alone = await measure(folder, image, 0);
    const beside = await measure(folder, image, Number(values.connections));
    ratios.push(beside / alone);
    times.push([alone, beside]);
  }
  for (const [alone, beside] of times) {
    console.log(
      `alone ${alone.toFixed(2)} s, with ${values.connections} idle ${beside.toFixed(2)} s`,
    );
  }
  console.log(`ratio ${spreadText(spread(ratios), 2)}`);
});
