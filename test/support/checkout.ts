/** A checkout of the project of its own, to build and pack in. */
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { command, ROOT } from "./program.ts";

/** What building and packing needs; nothing that an earlier one has left. */
const PARTS = [
  ...["bin", "src", "ffi", "man", "docs", "examples", "packaging"],
  // The dependencies of the program; the tools for development are large.
  ...["node_modules/citty", "node_modules/consola"],
  ...["package.json", "bun.lock", "bunfig.toml", ".gitignore"],
  ...["README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", ".github", "bench/results"],
];

/** Copies the project as it is, without its repository. */
export function copyCheckout(path: string): void {
  mkdirSync(path);
  for (const part of PARTS) cpSync(join(ROOT, part), join(path, part), { recursive: true });
}

/** Copies all packages, also those for development, of which a release is made. */
export function copyPackages(path: string): void {
  const cache = join(ROOT, "node_modules/.cache");
  const filter = (source: string) => source !== cache;
  cpSync(join(ROOT, "node_modules"), join(path, "node_modules"), { recursive: true, filter });
}

/** Makes a folder a git repository with one commit of all that is there. @returns that commit */
export async function commitAll(path: string): Promise<string> {
  const identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com"];
  const git = (...words: string[]) => command(["git", "-C", path, ...identity, ...words]);
  await git("init", "-q");
  await git("add", "-A");
  await git("commit", "-q", "--no-verify", "--no-gpg-sign", "--allow-empty", "-m", "all");
  return (await git("rev-parse", "HEAD")).trim();
}

/** The digits of a commit that `--version` shows. */
export function shown(commit: string): string {
  return commit.slice(0, 12);
}
