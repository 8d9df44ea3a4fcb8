/** The page of `start.ts`. */
import { MIB } from "../rows/row.ts";
import { goalText, spread, type Spread, spreadText } from "./figures.ts";
import { markdownList, markdownTable } from "./markdown.ts";

/** The programs that are started, by their names on the page. */
export const PROGRAMS = {
  source: "ours, from source",
  compiled: "ours, compiled",
  package: "ours, npm package",
  empty: "empty program",
  nbdkit: "nbdkit",
} as const;

export type Program = keyof typeof PROGRAMS;

/** One start. */
export interface Start {
  ms: number;
  /** The largest resident size until then. */
  peakBytes: number;
}

export type Starts = Partial<Record<Program, Start[]>>;

type Figure = (start: Start) => number;

const time: Figure = ({ ms }) => ms;
const memory: Figure = ({ peakBytes }) => peakBytes;

/** A goal is the largest ratio that will do. */
const GOALS = [
  { name: "time", figure: time, of: "compiled", to: "empty", goal: 1.4 },
  { name: "time", figure: time, of: "package", to: "compiled", goal: 1.5 },
  { name: "memory", figure: memory, of: "compiled", to: "empty", goal: 1.5 },
] as const;

/** @param starts in the order of the rounds, of all programs that were there */
export function startPage(starts: Starts, facts: readonly string[]): string {
  const lines = Object.entries(PROGRAMS).flatMap(([key, name]) => {
    const program = key as Program;
    const its = starts[program];
    if (its === undefined) return [];
    const ratioTo = (other: Program) => {
      const values = program === other ? undefined : ratio(starts, time, program, other);
      return values === undefined ? "-" : spreadText(values, 2);
    };
    return [
      [
        name,
        spreadText(spread(its.map(time)), 1),
        ratioTo("empty"),
        ratioTo("nbdkit"),
        spreadText(spread(its.map((start) => memory(start) / MIB)), 1),
      ],
    ];
  });
  const goals = GOALS.map(({ name, figure, of, to, goal }) => [
    `${name}, ${PROGRAMS[of]} / ${PROGRAMS[to]}`,
    goalText(ratio(starts, figure, of, to), goal),
  ]);
  const rounds = Math.max(...Object.values(starts).map((its) => its.length));
  return `# Start

Of a server: from the start of the process until its first client, which tries every millisecond, has the greeting. Of the
empty program: from its start until its Worker has answered and it has ended. Peak resident size (VmHWM) when the greeting
or the Worker's answer has come. Medians of ${rounds} rounds in random order, and the smallest and the largest. A ratio is
taken within a round. What the programs are is in [README.md](../README.md#start).

${markdownTable(["program", "ms", "ratio to empty", "ratio to nbdkit", "peak, MiB"], lines)}
${markdownTable(["ratio", "median, and goal"], goals)}
${markdownList(facts)}`;
}

function ratio(starts: Starts, figure: Figure, of: Program, to: Program): Spread | undefined {
  const [ours, theirs] = [starts[of], starts[to]];
  if (ours === undefined || theirs === undefined) return undefined;
  return spread(
    ours.map((start, round) => {
      const other = theirs[round];
      return other === undefined ? Number.NaN : figure(start) / figure(other);
    }),
  );
}
