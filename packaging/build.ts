/**
 * Makes binaries, in dist/: one for this machine or, with `--all`, those of a release with their
 * checksums. For another machine Bun fetches its own program for it from the registry.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commitOf } from "../src/cli/version.ts";

const ROOT = join(import.meta.dir, "..");
const DIST = join(ROOT, "dist");
const NAME = "nbd-streaming";
const SUMS = "SHA256SUMS";

/** What a release has, by the ends of the files' names; they are Bun's, too. */
const TARGETS = ["linux-x64", "linux-x64-musl", "linux-arm64", "linux-arm64-musl"];

const HINT = "; Bun's program for that machine comes from the npm registry: can this one reach it?";

const commit = commitOf(ROOT);

/** @returns the complaint, in one line, if it failed */
function build(file: string, target?: string): string | undefined {
  // The binary of an earlier commit must not stand for this one.
  rmSync(join(DIST, file), { force: true });
  const { success, stderr } = Bun.spawnSync({
    cmd: [
      ...[process.execPath, "build", "--compile", "--minify"],
      // Files of the folder in which somebody starts the program are not its business.
      ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
      ...["--define", `NBD_STREAMING_COMMIT=${JSON.stringify(commit)}`],
      ...(target === undefined ? [] : [`--target=bun-${target}`]),
      ...["src/main.ts", "src/stream.worker.ts", "--outfile", join(DIST, file)],
    ],
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (success) return undefined;
  return stderr.toString().trim().replaceAll(/\s+/g, " ") || "bun build gave no reason";
}

/** @returns true if it was made */
function make(file: string, target?: string): boolean {
  const complaint = build(file, target);
  if (complaint === undefined) console.log(`dist/${file} (commit ${commit})`);
  else
    console.error(`dist/${file} cannot be made: ${complaint}${target === undefined ? "" : HINT}`);
  return complaint === undefined;
}

/** A release: goes on after a target that fails, and lists the files that there are. */
function makeAll(): boolean {
  const files = TARGETS.map((target) => ({ target, file: `${NAME}-${target}` }));
  rmSync(join(DIST, SUMS), { force: true });
  const made = files.filter(({ file, target }) => make(file, target));
  const sums = made.map(({ file }) => {
    const digest = createHash("sha256")
      .update(readFileSync(join(DIST, file)))
      .digest("hex");
    return `${digest}  ${file}\n`;
  });
  if (made.length > 0) writeFileSync(join(DIST, SUMS), sums.join(""));
  return made.length === files.length;
}

mkdirSync(DIST, { recursive: true });
process.exitCode = (process.argv[2] === "--all" ? makeAll() : make(NAME)) ? 0 : 1;
