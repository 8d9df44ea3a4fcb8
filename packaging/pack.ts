/**
 * Puts what a package has beside the sources into the checkout, before `npm pack` and `bun pm pack`,
 * and with `--clean` takes it out again.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMIT_FILE, commitOf, isKnown } from "../src/cli/version.ts";
import { makeBundles } from "./bundle.ts";

const ROOT = join(import.meta.dir, "..");
const COMPLETIONS = join(ROOT, "completions");
const BUNDLES = join(ROOT, "bundles");

/** By the names under which each shell finds them. */
const FILES = { bash: "nbd-streaming", zsh: "_nbd-streaming", fish: "nbd-streaming.fish" };

function clean(): void {
  for (const made of [COMPLETIONS, BUNDLES]) rmSync(made, { recursive: true, force: true });
  // In a copy of the checkout without git it would tell the commit of other sources.
  rmSync(join(ROOT, COMMIT_FILE), { force: true });
}

async function prepare(): Promise<void> {
  for (const [shell, file] of Object.entries(FILES)) {
    const folder = join(COMPLETIONS, shell);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, file), printed("completions", shell));
  }
  const commit = commitOf(ROOT);
  if (isKnown(commit)) writeFileSync(join(ROOT, COMMIT_FILE), `${commit}\n`);
  await makeBundles(BUNDLES, commit);
}

/** What the program prints. */
function printed(...words: string[]): Buffer {
  const { success, stdout } = Bun.spawnSync({
    cmd: [process.execPath, join(ROOT, "src/main.ts"), ...words],
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (!success) throw new Error(`nbd-streaming ${words.join(" ")} failed`);
  return stdout;
}

clean();
if (process.argv[2] !== "--clean") await prepare();
