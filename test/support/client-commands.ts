/** Words that make clients write to the stream, after `run pipe=SINK`, and what then is to come out. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** From qcow2. */
export function convert(...words: readonly string[]): string[] {
  return ["--", "qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", ...words, "$nbd"];
}

export function bench(...words: readonly string[]): string[] {
  return ["--", "qemu-img", "bench", "-q", "-w", "-f", "raw", ...words, "$nbd"];
}

export function dd(...words: readonly string[]): string[] {
  return ["--", "qemu-img", "dd", "-f", "raw", "-O", "raw", ...words];
}

export function nbdcopy(...words: readonly string[]): string[] {
  return ["--", "nbdcopy", ...words, "$uri"];
}

export function qemuIo(...commands: readonly string[]): string[] {
  return ["--", "qemu-io", "-f", "raw", ...commands.flatMap((io) => ["-c", io]), "$nbd"];
}

/** A client in no order: see scattered.child.ts. @param raw an image */
export function scattered(raw: string): string[] {
  return ["--", process.execPath, join(import.meta.dir, "scattered.child.ts"), "$unixsocket", raw];
}

export function filled(byte: number, length: number): Buffer {
  return Buffer.alloc(length, byte);
}

export function digestOf(...parts: readonly Buffer[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

export async function digestPart(path: string, start: number, length: number): Promise<string> {
  return digestOf((await readFile(path)).subarray(start, start + length));
}
