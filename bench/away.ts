/**
 * `bun bench/away.ts [--spool DIR] [--size MiB] [--hold]`: for how long does a slow spool keep the stream thread
 * from its other clients?
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { NBD_CMD_READ } from "../src/protocol/constants.ts";
import { RawClient } from "../test/support/nbd-client.ts";
import { encodeRequest } from "../test/support/wire.ts";
import { MAIN } from "./programs/servers.ts";
import { MIB } from "./rows/row.ts";
import { withScratch } from "./run/scratch.ts";

/** A simple reply, and the byte that is asked for. */
const REPLY = 16 + 1;

/** Milliseconds between two questions. */
const PAUSE = 1;

const { values } = parseArgs({
  options: {
    spool: { type: "string", default: "/var/tmp" },
    size: { type: "string", default: "1024" },
    hold: { type: "boolean", default: false },
  },
});
const size = Number(values.size) * MIB;

/** Reads the byte behind all data, again and again. @returns milliseconds that each answer took */
async function ask(client: RawClient, at: number, stop: AbortSignal): Promise<number[]> {
  const took: number[] = [];
  while (!stop.aborted) {
    const asked = performance.now();
    client.send(encodeRequest(NBD_CMD_READ, at, 1));
    try {
      await client.receive(REPLY);
    } catch {
      // fio leaves without NBD_CMD_DISC, which truncates a stream that is held.
      break;
    }
    took.push(performance.now() - asked);
    await Bun.sleep(PAUSE);
  }
  return took.toSorted((a, b) => a - b);
}

await withScratch(0, async (folder) => {
  const socket = join(folder, "nbd.sock");
  const kind = values.hold ? ["--hold"] : [];
  const disk = [`size=${size + MIB}`, `spool=${values.spool}`, "--no-pad", ...kind];
  const server = Bun.spawn(
    [process.execPath, MAIN, "serve", "pipe=exec:cat > /dev/null", ...disk, "-U", socket],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  try {
    await server.stderr.getReader().read();
    using client = await RawClient.transmission(socket);
    const done = new AbortController();
    const asking = ask(client, size, done.signal);
    const shuffle = ["--rw=randwrite", "--bs=1M", `--size=${size}`, "--output=/dev/null"];
    const uri = `nbd+unix:///?socket=${socket}`;
    const fio = Bun.spawn(
      ["fio", "--name=away", "--ioengine=nbd", `--uri=${uri}`, "--iodepth=16", ...shuffle],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    if ((await fio.exited) !== 0) throw new Error("fio has failed");
    done.abort();
    const took = await asking;
    const at = (part: number) => (took[Math.ceil(part * took.length) - 1] ?? 0).toFixed(1);
    console.log(
      `${took.length} answers: median ${at(0.5)} ms, 99 % within ${at(0.99)} ms, the longest ${at(1)} ms`,
    );
  } finally {
    server.kill("SIGKILL");
    await server.exited;
  }
});
