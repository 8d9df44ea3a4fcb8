/** The runs as they are kept for other programs: by program and by fault, a line for each. */
import type { Case } from "../case.ts";
import type { Knowledge } from "../judge.ts";
import type { Entry } from "./totals.ts";

const COLUMNS = ["sink or source", "where", "status", "every byte", "knows", "verdict"] as const;

export type Verdict =
  "ok" | "misled" | "false success" | "beyond knowing" | "hang" | "not injected";

/** In the order of {@link COLUMNS}; null for what is not known. */
export type Line = readonly [
  endpoint: Case["endpoint"],
  at: string,
  status: number | null,
  whole: boolean | null,
  knows: Knowledge | null,
  verdict: Verdict,
];

export interface Stored {
  readonly facts: readonly string[];
  readonly columns: readonly string[];
  readonly programs: Record<string, Record<string, Line[]>>;
}

export function stored(entries: readonly Entry[], facts: readonly string[]): Stored {
  const programs: Stored["programs"] = {};
  for (const entry of entries) {
    const { program, fault, endpoint, at, status = null, whole = null, knows = null } = entry;
    const lines = ((programs[program] ??= {})[fault] ??= []);
    lines.push([endpoint, at, status, whole, knows, verdictOf(entry)]);
  }
  return { facts, columns: COLUMNS, programs };
}

/** The worst of what is to be said of a run. */
export function verdictOf(entry: Entry): Verdict {
  const { injected, falseSuccess, beyondKnowing, hung, misled } = entry;
  if (!injected) return "not injected";
  if (falseSuccess) return "false success";
  if (beyondKnowing) return "beyond knowing";
  if (hung) return "hang";
  return misled ? "misled" : "ok";
}
