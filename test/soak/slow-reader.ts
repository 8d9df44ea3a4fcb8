/** `bun slow-reader.ts FIFO FILE BYTES_PER_SECOND`: copies no faster than that. */
import { openSync, readSync, writeSync } from "node:fs";

const [fifo = "", file = "", rate = ""] = process.argv.slice(2);
const [from, to] = [openSync(fifo, "r"), openSync(file, "w")];
const buffer = Buffer.alloc(256 * 1024);
const started = performance.now();
let done = 0;
for (let n = readSync(from, buffer); n > 0; n = readSync(from, buffer)) {
  writeSync(to, buffer, 0, n);
  done += n;
  const due = started + (1000 * done) / Number(rate);
  const early = due - performance.now();
  if (early > 1) Bun.sleepSync(early);
}
