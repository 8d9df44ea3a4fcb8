/**
 * Puts what a package has beside the sources into the checkout, before `npm pack` and `bun pm pack`,
 * and with `--clean` takes it out again.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMIT_FILE, commitOf, isKnown } from "../src/cli/version.ts";
import { makeBundles } from "./bundle.ts";
import { COMPLETIONS, completions } from "./completions.ts";
import { licencesOfPackages } from "./files/licences.ts";

const ROOT = join(import.meta.dir, "..");
const SHELLS = join(ROOT, "completions");
const BUNDLES = join(ROOT, "bundles");

function clean(): void {
  for (const made of [SHELLS, BUNDLES]) rmSync(made, { recursive: true, force: true });
  // In a copy of the checkout without git it would tell the commit of other sources.
  rmSync(join(ROOT, COMMIT_FILE), { force: true });
}

async function prepare(): Promise<void> {
  for (const shell of ["bash", "zsh", "fish"] as const) {
    const folder = join(SHELLS, shell);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, COMPLETIONS[shell]), completions(shell));
  }
  const commit = commitOf(ROOT);
  if (isKnown(commit)) writeFileSync(join(ROOT, COMMIT_FILE), `${commit}\n`);
  await makeBundles(BUNDLES, commit);
  writeFileSync(join(BUNDLES, "LICENCES.txt"), licencesOfPackages());
}

clean();
if (process.argv[2] !== "--clean") await prepare();
