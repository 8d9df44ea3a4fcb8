/** What the runs of a fault, and of a program, amount to. */
import { type Case, CONTROL, type Endpoint, type Program } from "../case.ts";
import type { Judgement, Knowledge, Observation } from "../judge.ts";

/** One case when it is done. */
export interface Entry
  extends Pick<Case, "program" | "endpoint" | "fault" | "at">, Partial<Judgement> {
  /** How often it was tried until the fault took effect. */
  readonly tries: number;
  /** If not: that it never did, and this is all there is. */
  readonly injected: boolean;
  /** What the user looks at; null if it never ended. */
  readonly status?: number | null;
  readonly whole?: boolean;
  readonly knows?: Knowledge;
  /** The last line that the program said, where that explains something. */
  readonly said?: string;
}

export interface Totals {
  /** Runs in which the fault took effect. */
  readonly runs: number;
  readonly falseSuccesses: number;
  readonly beyondKnowing: number;
  readonly hangs: number;
  readonly misled: number;
  /** Those in which it did not, however often it was tried. */
  readonly notInjected: number;
  /** How often, the most frequent first; `hang` for those that have none. */
  readonly statuses: readonly [status: string, runs: number][];
  readonly knowledge: readonly [knows: string, runs: number][];
}

export function totals(entries: readonly Entry[]): Totals {
  const injected = entries.filter((entry) => entry.injected);
  const count = (is: (entry: Entry) => boolean | undefined) => injected.filter(is).length;
  return {
    runs: injected.length,
    falseSuccesses: count((entry) => entry.falseSuccess),
    beyondKnowing: count((entry) => entry.beyondKnowing),
    hangs: count((entry) => entry.hung),
    misled: count((entry) => entry.misled),
    notInjected: entries.length - injected.length,
    statuses: frequencies(injected.map(({ status }) => String(status ?? "hang"))),
    knowledge: frequencies(injected.map(({ knows }) => knows ?? "nothing")),
  };
}

function frequencies(values: readonly string[]): [string, number][] {
  const groups = [...Map.groupBy(values, (value) => value)];
  // What is as frequent stays in the order in which it came.
  return groups
    .map(([value, all]): [string, number] => [value, all.length])
    .toSorted(([, a], [, b]) => b - a);
}

export const isControl = ({ fault }: Entry): boolean => fault === CONTROL;

export const ofProgram = (entries: readonly Entry[], program: Program): Entry[] =>
  entries.filter((entry) => entry.program === program);

/** A control shows that the harness can tell only if the stream was whole, and said to be. */
export const isGood = ({ injected, whole, status }: Entry): boolean =>
  injected && whole === true && status === 0;

/** By the fault, in the order in which they came. */
export function byFault(entries: readonly Entry[]): Map<string, Entry[]> {
  return Map.groupBy(
    entries.filter((entry) => !isControl(entry)),
    ({ fault }) => fault,
  );
}

/** By what is at the other end, in the order in which they came. */
export function byEndpoint(entries: readonly Entry[]): Map<Endpoint, Entry[]> {
  return Map.groupBy(
    entries.filter((entry) => !isControl(entry)),
    ({ endpoint }) => endpoint,
  );
}

export function entryOf(
  { program, endpoint, fault, at }: Case,
  tries: number,
  seen: (Observation & Judgement & { readonly said: string }) | undefined,
  why = "",
): Entry {
  const common = { program, endpoint, fault, at, tries };
  if (seen === undefined) return { ...common, injected: false, ...(why && { said: why }) };
  const { injected, status, whole, knows, hung, falseSuccess, beyondKnowing, misled, said } = seen;
  // What went as it should needs no explanation.
  const odd =
    !injected || hung || falseSuccess || beyondKnowing || (fault === CONTROL && status !== 0);
  return {
    ...common,
    ...{ injected, status: status ?? null, whole, knows, hung },
    ...{ falseSuccess, beyondKnowing, misled },
    ...(odd && said !== "" && { said }),
  };
}
