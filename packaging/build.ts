/** Makes the binary for this machine, in dist/ or at `--outfile PATH`. */
import { mkdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { commitOf } from "../src/cli/version.ts";
import { makeBinary } from "./binary.ts";

const ROOT = join(import.meta.dir, "..");

const { values } = parseArgs({
  options: { outfile: { type: "string", default: join(ROOT, "dist/nbd-streaming") } },
});
const path = resolve(values.outfile);
mkdirSync(dirname(path), { recursive: true });
const commit = commitOf(ROOT);
const name = relative(process.cwd(), path);
try {
  makeBinary(path, commit);
  console.log(`${name} (commit ${commit})`);
} catch (error) {
  console.error(`${name} cannot be made: ${(error as Error).message}`);
  process.exitCode = 1;
}
