/**
 * `bun compare.ts BYTES [PART]`: fails unless standard input is exactly that long and, with PART, the
 * first bytes of that file repeated for ever.
 */
import { readFileSync, readSync } from "node:fs";

/** @returns what is wrong */
function compare(bytes: number, part: Buffer | undefined): string | undefined {
  const buffer = Buffer.allocUnsafe(2 ** 20);
  let done = 0;
  for (;;) {
    const length = readSync(0, buffer, 0, buffer.length, null);
    if (length === 0) break;
    if (part !== undefined && !continues(part, done, buffer.subarray(0, length))) {
      return `what comes after the first ${done} bytes is not what was written`;
    }
    done += length;
  }
  return done === bytes ? undefined : `${done} bytes have come instead of ${bytes}`;
}

function continues(part: Buffer, offset: number, data: Buffer): boolean {
  for (let done = 0; done < data.length;) {
    const at = (offset + done) % part.length;
    const length = Math.min(data.length - done, part.length - at);
    if (!data.subarray(done, done + length).equals(part.subarray(at, at + length))) return false;
    done += length;
  }
  return true;
}

const [bytes, path] = process.argv.slice(2);
const complaint = compare(Number(bytes), path === undefined ? undefined : readFileSync(path));
if (complaint !== undefined) {
  console.error(complaint);
  process.exitCode = 1;
}
