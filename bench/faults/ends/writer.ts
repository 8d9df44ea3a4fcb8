/** `bun writer.ts PLAN`: gives a disk as a stream, and leaves, dies or stops where the plan says. */
import { readFileSync, writeSync } from "node:fs";
import type { Plan, Turn } from "../case.ts";
import { patiently, perform, planned, type Talk, tell } from "./end.ts";
import { opened, type Via } from "./open.ts";

export interface WriterPlan extends Talk, Pick<Plan, "last"> {
  readonly via: Via;
  readonly turn?: Turn;
  /** A raw file. */
  readonly disk: string;
}

async function give(plan: WriterPlan): Promise<void> {
  const disk = readFileSync(plan.disk);
  let { turn } = plan;
  let bytes = 0;
  tell(plan, { bytes, sha256: "" });
  const output = await opened(plan.via, "w");
  try {
    for (;;) {
      if (turn?.at === bytes) {
        tell(plan, { bytes, sha256: "", did: turn.deed });
        perform(turn.deed, plan, turn.status);
        turn = undefined;
      }
      if (bytes === disk.length) break;
      const left = disk.subarray(bytes, Math.min(turn?.at ?? disk.length, bytes + 2 ** 16));
      bytes += patiently(() => writeSync(output, left));
    }
  } catch {
    tell(plan, { bytes, sha256: "", end: "an error" });
    process.exit(1);
  }
  tell(plan, { bytes, sha256: "", end: "an ordinary end" });
  if (plan.last === "kill") perform("kill", plan);
  process.exit(plan.last ?? 0);
}

await give(planned<WriterPlan>());
