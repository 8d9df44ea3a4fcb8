/** A short run of the fuzzer with a fixed seed; `bun run fuzz` is for long ones. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { LIMIT } from "../support/limit.ts";
import { fuzz, type Kind } from "./run.ts";

setDefaultTimeout(LIMIT);

/** Fixed in CI. */
const SEED = 20260103;

const PLAN: [kind: Kind, what: string, messages: number][] = [
  [
    "negotiation",
    "the negotiation answers each option once, in turn, and agrees as it should",
    60_000,
  ],
  ["written", "a stream that is written holds what the sequential rule admits", 6000],
  ["spool", "a stream in any order holds what was written, and nothing else", 6000],
  ["hold", "a disk that is held holds what a byte array does", 6000],
  ["read", "a stream that is read gives out what the source has", 6000],
  ["several", "each of several streams holds what its own clients have written", 600],
  ["program", "the program outlives its clients, and ends when it is asked to", 1200],
];

test.each(PLAN)("%s: whatever clients send, %s", async (kind, _, messages) => {
  const done = await fuzz({ kinds: [kind], seed: SEED, messages });
  expect(done[kind].messages).toBeGreaterThanOrEqual(messages);
});
