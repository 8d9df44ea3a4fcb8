/** Many cases, one after the other, and what is left of them. */
import { readdirSync } from "node:fs";
import { eventually } from "../support/program.ts";
import { type Case, negotiationCase } from "./negotiation.ts";
import { programCase } from "./program.ts";
import { Random } from "./random.ts";
import { heldCase } from "./held.ts";
import { readCase } from "./read.ts";
import { severalCase } from "./several.ts";
import { spooledCase, writtenCase } from "./written.ts";

/**
 * What is fuzzed: the state machine, the engine both ways, in any order and with a disk that is held, the program,
 * and several streams in one server.
 */
export const KINDS = [
  "negotiation",
  "written",
  "spool",
  "hold",
  "read",
  "program",
  "several",
] as const;
export type Kind = (typeof KINDS)[number];

const MAKE: Record<Kind, (random: Random) => Case> = {
  negotiation: negotiationCase,
  written: writtenCase,
  spool: spooledCase,
  hold: heldCase,
  read: readCase,
  program: programCase,
  several: severalCase,
};

/** A case that has failed, with all that it takes to see it again. */
export class FuzzFailure extends Error {
  constructor(
    readonly kind: Kind,
    readonly seed: number,
    /** What was sent, in hex. */
    readonly pieces: readonly string[],
    cause: unknown,
  ) {
    super(`${kind} with seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}

/** How much was done. */
export interface Figures {
  cases: number;
  messages: number;
}

export interface FuzzOptions {
  readonly kinds: readonly Kind[];
  /** Of the first case of each kind; the next one has the next number. */
  readonly seed: number;
  /** Messages, at least, in all, unless the time is over first. */
  readonly messages: number;
  /** Milliseconds. */
  readonly limit?: number;
  readonly onProgress?: (done: Record<Kind, Figures>) => void;
}

/** A program, or a server, is worth so many rounds of the others: it takes that long to start. */
const ROUNDS_PER_PROGRAM = 50;
const SLOW: readonly Kind[] = ["program", "several"];

/** @throws FuzzFailure by the first case that fails */
export async function fuzz(options: FuzzOptions): Promise<Record<Kind, Figures>> {
  const { kinds, seed, messages, limit = Number.POSITIVE_INFINITY, onProgress } = options;
  const none = () => ({ cases: 0, messages: 0 });
  const done = {
    negotiation: none(),
    written: none(),
    spool: none(),
    hold: none(),
    read: none(),
    program: none(),
    several: none(),
  };
  const until = performance.now() + limit;
  const descriptors = openDescriptors();
  let total = 0;
  for (let round = 0; total < messages && performance.now() < until; round++) {
    for (const kind of kinds) {
      if (SLOW.includes(kind) && kinds.length > 1 && round % ROUNDS_PER_PROGRAM > 0) continue;
      const figures = done[kind];
      const count = await runCase(kind, seed + figures.cases);
      figures.cases++;
      figures.messages += count;
      total += count;
    }
    onProgress?.(done);
  }
  const what = `the descriptors to be closed that were opened from seed ${seed} on`;
  // Bun closes those of a process that has ended, and of a socket, a little later.
  await eventually(() => openDescriptors() <= descriptors, what);
  return done;
}

/** @returns how many messages were in it */
async function runCase(kind: Kind, seed: number): Promise<number> {
  const one = MAKE[kind](new Random(seed));
  try {
    await one.run();
  } catch (error) {
    throw new FuzzFailure(kind, seed, one.pieces(), error);
  }
  return one.messages;
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
