/** The command lines of the processes that take part. */
import { join } from "node:path";
import type { ClientPlan } from "../ends/client.ts";
import type { ReaderPlan } from "../ends/reader.ts";
import type { WriterPlan } from "../ends/writer.ts";

const script = (name: string) => join(import.meta.dir, "../ends", name);

export function client(plan: ClientPlan): string[] {
  return [process.execPath, script("client.ts"), JSON.stringify(plan)];
}

export function reader(plan: ReaderPlan): string[] {
  return [process.execPath, script("reader.ts"), JSON.stringify(plan)];
}

export function writer(plan: WriterPlan): string[] {
  return [process.execPath, script("writer.ts"), JSON.stringify(plan)];
}

/** Words as one line for the shell. */
export function line(words: readonly string[]): string {
  return words.map((word) => Bun.$.escape(word)).join(" ");
}
