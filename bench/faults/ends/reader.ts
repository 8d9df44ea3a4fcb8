/** `bun reader.ts PLAN`: takes a stream, and leaves, dies or stops where the plan says. */
import { readSync, writeSync } from "node:fs";
import type { Plan, Turn } from "../case.ts";
import { patiently, perform, planned, type Talk, tell } from "./end.ts";
import { opened, type Via } from "./open.ts";

export interface ReaderPlan extends Talk, Pick<Plan, "last"> {
  readonly via: Via;
  readonly turn?: Turn;
  /** It is a stage of a pipeline, and passes on to its standard output what it has taken. */
  readonly pass?: true;
}

async function take(plan: ReaderPlan): Promise<void> {
  const hash = new Bun.CryptoHasher("sha256");
  const buffer = Buffer.allocUnsafe(2 ** 16);
  let { turn } = plan;
  let bytes = 0;
  const taken = () => ({ bytes, sha256: hash.copy().digest("hex") });
  tell(plan, { bytes, sha256: "" });
  const input = await opened(plan.via, "r");
  try {
    for (;;) {
      if (turn?.at === bytes) {
        tell(plan, { ...taken(), did: turn.deed });
        perform(turn.deed, plan, turn.status);
        turn = undefined;
      }
      const wanted = Math.min(buffer.length, (turn?.at ?? Number.POSITIVE_INFINITY) - bytes);
      const length = patiently(() => readSync(input, buffer, 0, wanted, null));
      if (length === 0) break;
      hash.update(buffer.subarray(0, length));
      bytes += length;
      if (plan.pass) pass(buffer.subarray(0, length));
    }
  } catch {
    tell(plan, { ...taken(), end: "an error" });
    process.exit(1);
  }
  tell(plan, { ...taken(), end: "an ordinary end" });
  if (plan.last === "kill") perform("kill", plan);
  process.exit(plan.last ?? 0);
}

function pass(data: Uint8Array): void {
  for (let done = 0; done < data.length;) done += writeSync(1, data, done);
}

await take(planned<ReaderPlan>());
