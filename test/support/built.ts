/**
 * The binary of the sources as they are: the tests start the program thousands of times, and a binary starts
 * in a third of the time. It is made once, and kept under node_modules/ for as long as tests use it.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { COMPILE } from "../../packaging/compile.ts";

/** What the binary is made of, all of it. */
const DEPENDENCIES = Object.keys(packageJson.dependencies).map((name) => `node_modules/${name}`);
const FOLDERS = ["src", "ffi", ...DEPENDENCIES];
const FILES = ["package.json", "tsconfig.json", "bunfig.toml"];

/** Milliseconds after which a binary that no test run uses is removed: each takes 110 MB. */
const KEPT = 10 * 60_000;

/** Makes the binary of a checkout, if there is none of these sources. @returns its path */
export function builtProgram(root: string): string {
  const cache = join(root, "node_modules/.cache/nbd-streaming-test");
  for (;;) {
    const key = keyOf(root);
    const path = join(cache, key);
    if (!existsSync(path)) build(root, cache, path);
    // What has been edited meanwhile may be in it or not.
    if (keyOf(root) !== key) continue;
    keep(path);
    return path;
  }
}

function build(root: string, cache: string, path: string): void {
  mkdirSync(cache, { recursive: true });
  removeOld(cache);
  // Another test run may make the same: whoever is first, there is a whole one at any time.
  const draft = `${path}.${process.pid}`;
  const { success, stderr } = Bun.spawnSync({
    cmd: [process.execPath, ...COMPILE, "src/main.ts", "src/stream.worker.ts", "--outfile", draft],
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (!success) throw new Error(`the binary for the tests cannot be made: ${stderr.toString()}`);
  renameSync(draft, path);
}

/** Says again and again that it is in use. */
function keep(path: string): void {
  const touch = () => {
    const now = new Date();
    utimesSync(path, now, now);
  };
  touch();
  const again = () => {
    try {
      touch();
    } catch {
      // Its checkout has been removed, as that of a test is: it would fail whichever test runs now.
      clearInterval(timer);
    }
  };
  const timer = setInterval(again, KEPT / 10).unref();
}

/** A name for what goes into it, Bun included. */
function keyOf(root: string): string {
  const { size, mtimeMs } = statSync(process.execPath);
  const hash = createHash("sha256");
  hash.update(JSON.stringify([Bun.version, Bun.revision, size, mtimeMs, COMPILE]));
  const inFolders = FOLDERS.flatMap((folder) =>
    (readdirSync(join(root, folder), { recursive: true }) as string[])
      .filter((name) => /\.(?:[cm]?[jt]s|json)$/.test(name))
      .map((name) => `${folder}/${name}`),
  );
  for (const name of [...FILES, ...inFolders.toSorted()]) {
    const data = readFileSync(join(root, name));
    hash.update(`${name}\0${data.length}\0`).update(data);
  }
  return hash.digest("hex").slice(0, 32);
}

/** Also what is left of a run that was killed meanwhile. */
function removeOld(cache: string): void {
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    const used = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (used < Date.now() - KEPT) rmSync(path, { force: true });
  }
}
