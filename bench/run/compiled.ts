/** Compiled programs, made outside of the checkout, as they would be where they are installed. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { COMPILE } from "../../packaging/compile.ts";

const CHECKOUT = join(import.meta.dir, "../..");
const EMPTY = join(import.meta.dir, "../empty");

/** The name of ours. */
export const BINARY = "nbd-streaming";

/** Ours, by `bun run build`. @returns its path */
export async function compileOurs(folder: string): Promise<string> {
  const path = join(folder, BINARY);
  return await made(path, ["run", "build", "--outfile", path], CHECKOUT);
}

/** An empty program with an empty Worker, in the same way. @returns its path */
export async function compileEmpty(folder: string): Promise<string> {
  const path = join(folder, "empty");
  return await made(path, [...COMPILE, "main.ts", "empty.worker.ts", "--outfile", path], EMPTY);
}

async function made(path: string, words: string[], cwd: string): Promise<string> {
  const child = Bun.spawn([process.execPath, ...words], {
    cwd,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [said, status] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  if (status !== 0 || !existsSync(path)) {
    throw new Error(`bun ${words.join(" ")} has failed: ${said.trim()}`);
  }
  return path;
}
