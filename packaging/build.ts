/**
 * Makes binaries: one for this machine, in dist/ or at `--outfile PATH`, or with `--all` those of a
 * release in dist/, with their checksums. For another machine Bun fetches its own program for it
 * from the registry.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { commitOf } from "../src/cli/version.ts";
import { COMPILE } from "./compile.ts";

const ROOT = join(import.meta.dir, "..");
const DIST = join(ROOT, "dist");
const NAME = "nbd-streaming";
const SUMS = "SHA256SUMS";

/** What a release has, by the ends of the files' names; they are Bun's, too. */
const TARGETS = ["linux-x64", "linux-x64-musl", "linux-arm64", "linux-arm64-musl"];

const HINT = "; Bun's program for that machine comes from the npm registry: can this one reach it?";

const commit = commitOf(ROOT);

/** @returns the complaint, in one line, if it failed */
function build(path: string, target?: string): string | undefined {
  // The binary of an earlier commit must not stand for this one.
  rmSync(path, { force: true });
  const { success, stderr } = Bun.spawnSync({
    cmd: [
      ...[process.execPath, ...COMPILE],
      ...["--define", `NBD_STREAMING_COMMIT=${JSON.stringify(commit)}`],
      ...(target === undefined ? [] : [`--target=bun-${target}`]),
      ...["src/main.ts", "src/stream.worker.ts", "--outfile", path],
    ],
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (success) return undefined;
  return stderr.toString().trim().replaceAll(/\s+/g, " ") || "bun build gave no reason";
}

/** @returns true if it was made */
function make(path: string, target?: string): boolean {
  const complaint = build(path, target);
  const name = relative(process.cwd(), path);
  if (complaint === undefined) console.log(`${name} (commit ${commit})`);
  else console.error(`${name} cannot be made: ${complaint}${target === undefined ? "" : HINT}`);
  return complaint === undefined;
}

/** A release: goes on after a target that fails, and lists the files that there are. */
function makeAll(): boolean {
  const files = TARGETS.map((target) => ({ target, path: join(DIST, `${NAME}-${target}`) }));
  rmSync(join(DIST, SUMS), { force: true });
  const made = files.filter(({ path, target }) => make(path, target));
  const sums = made.map(({ path }) => {
    const digest = createHash("sha256").update(readFileSync(path)).digest("hex");
    return `${digest}  ${basename(path)}\n`;
  });
  if (made.length > 0) writeFileSync(join(DIST, SUMS), sums.join(""));
  return made.length === files.length;
}

const { values } = parseArgs({
  options: { all: { type: "boolean" }, outfile: { type: "string", default: join(DIST, NAME) } },
});
mkdirSync(DIST, { recursive: true });
process.exitCode = (values.all === true ? makeAll() : make(resolve(values.outfile))) ? 0 : 1;
