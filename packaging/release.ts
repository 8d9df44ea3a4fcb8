/**
 * Makes all that a release has, in dist/, from the commit that is checked out; or the parts that are named:
 * `tarball`, `binaries`, `packages` (of binaries), `bill` (with the licences).
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { makeBinary, TARGETS } from "./binary.ts";
import { debName, makeDeb } from "./deb/package.ts";
import { type Machine, MACHINES } from "./files/about.ts";
import { licencesOfBinary } from "./files/licences.ts";
import { type Commit, releasedCommit, ROOT, run } from "./release/commit.ts";
import { makeNotes, NOTES } from "./release/notes.ts";
import { BILL, makeBill } from "./release/sbom.ts";
import { sum, SUMS } from "./release/sums.ts";
import { makeTarball, TARBALL } from "./release/tarball.ts";
import { makeRpm, rpmName } from "./rpm/package.ts";

const DIST = join(ROOT, "dist");
/** They go with the binaries, which contain what is under them; packages have them inside. */
const LICENCES = "LICENCES.txt";

const PARTS = ["tarball", "binaries", "packages", "bill"] as const;
const { positionals } = parseArgs({ allowPositionals: true });
const wanted = new Set(positionals.length === 0 ? PARTS : positionals);

const machines = Object.keys(MACHINES) as Machine[];
const binaryName = (target: string) => `nbd-streaming-${target}`;
const place = (name: string) => join(DIST, name);

// What is made has modes that do not depend on who makes it.
process.umask(0o022);

let failed = false;
const made: string[] = [];

/** Says what became of a file, and goes on without it if it cannot be made. */
async function make(name: string, how: () => Promise<void> | void): Promise<void> {
  try {
    await how();
    made.push(name);
    console.log(`dist/${name}`);
  } catch (error) {
    failed = true;
    rmSync(place(name), { force: true });
    console.error(`dist/${name} cannot be made: ${(error as Error).message}`);
  }
}

async function makeAll(): Promise<void> {
  const commit = releasedCommit();
  // A clone has no packages yet, and an older checkout other versions than the commit says.
  run([process.execPath, "install", "--frozen-lockfile"]);
  // What an earlier release has left must not stand for a part of this one.
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  console.log(`commit ${commit.name}`);
  if (wanted.has("tarball")) await make(TARBALL, () => makeTarball(DIST));
  if (wanted.has("binaries")) {
    for (const target of TARGETS) {
      await make(binaryName(target), () =>
        makeBinary(place(binaryName(target)), commit.name, target),
      );
    }
  }
  if (wanted.has("packages")) await makePackages(commit);
  if (wanted.has("bill")) {
    await make(BILL, () => makeBill(place(BILL), commit));
    await make(LICENCES, () => writeFileSync(place(LICENCES), licencesOfBinary()));
  }
  sum(DIST, made);
  makeNotes(place(NOTES), [...made, SUMS], commit);
  for (const name of [SUMS, NOTES]) console.log(`dist/${name}`);
}

/** Of the binaries that there are. */
async function makePackages(commit: Commit): Promise<void> {
  for (const machine of machines.filter((target) => made.includes(binaryName(target)))) {
    const binary = place(binaryName(machine));
    const deb = debName(machine);
    await make(deb, () => makeDeb(place(deb), binary, machine, commit));
    const rpm = rpmName(machine);
    await make(rpm, () => makeRpm(place(rpm), binary, machine, commit));
  }
}

try {
  await makeAll();
} catch (error) {
  failed = true;
  console.error(`no release: ${(error as Error).message}`);
}
process.exitCode = failed ? 1 : 0;
