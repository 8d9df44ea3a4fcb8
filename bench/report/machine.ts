/** What figures were measured with. It names no host and no path. */
import { release, totalmem } from "node:os";
import type { Peer } from "../programs/peer.ts";
import { GIB } from "../rows/row.ts";
import { command } from "../run/scratch.ts";

/** @param tools besides Bun and qemu-img; those that are not there are left out */
export async function machine(tools: readonly string[], peer?: Peer): Promise<string[]> {
  const facts = [
    `Machine: ${navigator.hardwareConcurrency} cores, ${(totalmem() / GIB).toFixed(0)} GiB of memory`,
    `Kernel: ${process.platform} ${release()}, ${process.arch}`,
    `Bun ${Bun.version}`,
  ];
  for (const tool of tools) if (Bun.which(tool) !== null) facts.push(await versionOf(tool));
  if (peer !== undefined) facts.push(`nbdkit ${peer.version}`);
  return facts;
}

async function versionOf(tool: string): Promise<string> {
  const text = await command([tool, "--version"]);
  return `${tool} ${/\d+(\.\d+)+/.exec(text)?.[0] ?? "unknown"}`;
}
