/**
 * `bun run fuzz [--messages N] [--seed S] [--only KIND] [--minutes M]`: hostile conversations, until
 * there were enough or one has found something. Exits with 1 if it has.
 */
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fuzz, FuzzFailure, KINDS, type Kind } from "./run.ts";

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "100000" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    only: { type: "string" },
    minutes: { type: "string", default: "60" },
  },
});
const seed = Number(values.seed);
const kinds = values.only === undefined ? KINDS : KINDS.filter((kind) => kind === values.only);
if (kinds.length === 0) throw new Error(`--only ${values.only} is none of ${KINDS.join(", ")}`);
console.log(`seed ${seed}`);

const started = performance.now();
let shown = started;
try {
  const done = await fuzz({
    kinds,
    seed,
    messages: Number(values.messages),
    limit: Number(values.minutes) * 60_000,
    onProgress: (figures) => {
      if (performance.now() - shown < 10_000) return;
      shown = performance.now();
      console.log(text(figures));
    },
  });
  console.log(`${text(done)}: nothing found`);
} catch (error) {
  if (!(error instanceof FuzzFailure)) throw error;
  const { kind, seed: failed, pieces } = error;
  const file = join(tmpdir(), `nbd-streaming-fuzz-${kind}-${failed}.txt`);
  writeFileSync(file, `${pieces.join("\n")}\n`);
  console.log(`${error.message}\nwhat was sent, in hex: ${file}`);
  console.log(`again: bun run fuzz --only ${kind} --seed ${failed} --messages 1`);
  console.log(error.cause);
  process.exitCode = 1;
}

function text(done: Awaited<ReturnType<typeof fuzz>>): string {
  const parts = Object.entries(done).map(
    ([kind, { cases, messages }]) => `${kind as Kind} ${cases} cases, ${messages} messages`,
  );
  const all = Object.values(done).reduce((sum, { messages }) => sum + messages, 0);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  return `${all} messages in ${seconds} s (${parts.join("; ")})`;
}
