/**
 * `bun counter.ts FIFO PID STEP`: reads the FIFO to its end and prints a line of JSON for every
 * STEP bytes: how many came, and what the process PID had resident at that moment, in bytes.
 */
import { openSync, readFileSync, readSync } from "node:fs";

export interface Sample {
  bytes: number;
  /** All of it, files that are mapped included. */
  resident: number;
  /** What is not backed by a file: the kernel cannot take it away to make room. */
  anonymous: number;
}

if (import.meta.main) {
  const [fifo = "", pid = "", step = ""] = process.argv.slice(2);
  count(fifo, Number(pid), Number(step));
}

function count(fifo: string, pid: number, step: number): void {
  const input = openSync(fifo, "r");
  const buffer = Buffer.allocUnsafe(2 ** 20);
  let bytes = 0;
  let mark = step;
  for (;;) {
    // Stops short at the mark, so that the figures belong to exactly that many bytes.
    const length = readSync(input, buffer, 0, Math.min(buffer.length, mark - bytes), null);
    if (length === 0) break;
    bytes += length;
    if (bytes < mark) continue;
    console.log(JSON.stringify({ bytes, ...memoryOf(pid) } satisfies Sample));
    mark += step;
  }
}

function memoryOf(pid: number): Pick<Sample, "resident" | "anonymous"> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => {
    const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
    if (kib === undefined) throw new Error(`/proc/${pid}/status has no ${name}`);
    return Number(kib) * 1024;
  };
  return { resident: field("VmRSS"), anonymous: field("RssAnon") };
}
