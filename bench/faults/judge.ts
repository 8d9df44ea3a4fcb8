/** What is made of what was seen of a run. */

/** What the process at the other end could know of the end of the stream. */
export const KNOWLEDGE = [
  /** It saw an ordinary end of file, and took what it had for the whole. */
  "an ordinary end",
  "an error",
  /** It was ended before it saw an end. */
  "killed",
  /** It saw nothing: it still waited when all was over. */
  "waits",
  /** The fault was its own, or it was never started. */
  "gone",
  /** It is a file or a device, which knows nothing. */
  "nothing",
] as const;
export type Knowledge = (typeof KNOWLEDGE)[number];

/** What was seen of one run. */
export interface Observation {
  /** The fault took effect while the stream was not over yet. */
  readonly injected: boolean;
  /** What the user looks at: an exit status, 128 + N for signal N; undefined if it never ended. */
  readonly status: number | undefined;
  /** The other end has every byte of the disk, exactly, and has not failed if the program started it. */
  readonly whole: boolean;
  readonly knows: Knowledge;
  /** The status of the last command, where program and other end are a pipeline of a shell. */
  readonly alone?: number | undefined;
  /** The program has started the other end itself, and answers for what it takes for the whole. */
  readonly captive: boolean;
}

export interface Judgement {
  /** It never ended by itself. */
  readonly hung: boolean;
  /** Somebody was told that all is well, and it was not. */
  readonly falseSuccess: boolean;
  /** The same, where nothing that the program can ask would have told it. */
  readonly beyondKnowing: boolean;
  /**
   * Another program's reader took a part for the whole, or a shell without `pipefail` would say so: it
   * needs the status to know better.
   */
  readonly misled: boolean;
}

/** @param knowable false where nobody but the other end itself can know that it has failed */
export function judge(
  { status, whole, knows, captive, alone }: Observation,
  knowable = true,
): Judgement {
  const took = !whole && knows === "an ordinary end";
  // One that has left by itself says 0 of itself, and not of the stream.
  const said = !whole && alone === 0 && knows !== "gone";
  const taken = !whole && (status === 0 || (captive && took));
  return {
    hung: status === undefined,
    falseSuccess: taken && knowable,
    beyondKnowing: taken && !knowable,
    misled: (took || said) && !captive,
  };
}

/**
 * The status of a pipeline of two commands for a shell with `pipefail`; without, it is that of the
 * last alone.
 */
export function pipefail(first: number | undefined, last: number | undefined): number | undefined {
  if (first === undefined || last === undefined) return undefined;
  return last === 0 ? first : last;
}
