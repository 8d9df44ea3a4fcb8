/** What figures were measured with. It names no host and no path. */
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import type { Peer } from "../programs/peer.ts";
import { GIB } from "../rows/row.ts";
import { allowedCores } from "../run/cores.ts";
import { command } from "../run/scratch.ts";
import { commitFact } from "./commit.ts";

const ROOT = join(import.meta.dir, "../..");

/** @param tools besides Bun and qemu-img; those that are not there are left out */
export async function machine(tools: readonly string[], peer?: Peer): Promise<string[]> {
  const facts = [
    commitFact(ROOT),
    `Machine: ${cpus().length} cores, ${(totalmem() / GIB).toFixed(0)} GiB of memory`,
    `Ran on ${cores(allowedCores().length)}`,
    `Kernel: ${process.platform} ${release()}, ${process.arch}`,
    `Bun ${Bun.version}`,
  ];
  for (const tool of tools) if (Bun.which(tool) !== null) facts.push(await versionOf(tool));
  if (peer !== undefined) facts.push(`nbdkit ${peer.version}${peer.tls ? "" : ", without TLS"}`);
  return facts;
}

function cores(count: number): string {
  return count === 1 ? "1 core" : `${count} cores`;
}

async function versionOf(tool: string): Promise<string> {
  const text = await command([tool, "--version"]);
  return `${tool} ${/\d+(\.\d+)+/.exec(text)?.[0] ?? "unknown"}`;
}
