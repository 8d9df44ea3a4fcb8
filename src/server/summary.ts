/** The summary of a stream. */
import type { Notice } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { Counters } from "../stream/counters.ts";
import type { DryRunFindings, Ended, StreamPlan } from "../stream/messages.ts";
import type { Verdict } from "./exit-status.ts";

/** The names are those of the JSON form. */
export interface Summary {
  readonly complete: boolean;
  /** Why it is truncated, or null. */
  readonly reason: string | null;
  /** Bytes that the sink has accepted, or clients have gone through; of these, data and zeroes. */
  readonly bytes: number;
  readonly data: number;
  readonly zeroes: number;
  readonly seconds: number;
  readonly bytesPerSecond: number;
  /** With `--checksum`: that of the bytes emitted, in hex; else null. */
  readonly checksum: { readonly algorithm: string; readonly digest: string } | null;
  /**
   * With `window=`: its size, and the most of it that was needed at once, for requests that came out of
   * order; else null. Bytes.
   */
  readonly window: { readonly size: number; readonly needed: number } | null;
  /** With `spool=`: the most room on the disk that it took, in bytes; else null. */
  readonly spool: { readonly most: number } | null;
  /** With `read=`: bytes found behind the stream's size (there may be more); else null. */
  readonly surplus: number | null;
  /** Warnings about the stream's bytes: a surplus, or a start that is no raw disk's. */
  readonly warnings: readonly string[];
}

/** How a stream has ended, with its figures. */
export interface StreamResult extends Verdict {
  readonly summary: Summary;
  /** The findings of a dry run; undefined for other streams. */
  readonly findings: DryRunFindings | undefined;
}

export interface SummaryParts {
  readonly plan: StreamPlan;
  readonly counters: Counters;
  /** From the first client to now. */
  readonly seconds: number;
  /** Undefined if the stream thread has not posted it. */
  readonly end: Ended | undefined;
  /** Bytes found behind the stream's size; undefined when none were. */
  readonly surplus: number | undefined;
  readonly warnings: readonly Notice[];
  readonly vocabulary: Vocabulary;
}

export function summarize(
  { why }: Verdict,
  { plan, counters, seconds, end, surplus, warnings, vocabulary }: SummaryParts,
): Summary {
  const { data, zeroes, emitted } = counters;
  const { checksum: algorithm, window: size } = plan;
  const { checksum: digest, windowNeeded: needed = 0 } = end ?? {};
  return {
    complete: why === undefined,
    reason: why === undefined ? null : textOf(why, vocabulary),
    bytes: emitted,
    data,
    zeroes,
    seconds,
    checksum: algorithm === undefined || digest === undefined ? null : { algorithm, digest },
    window: size === 0 ? null : { size, needed },
    spool: plan.spool === undefined ? null : { most: counters.mostSpooled },
    surplus: surplus ?? null,
    warnings: warnings.map((notice) => textOf(notice, vocabulary)),
    bytesPerSecond: seconds > 0 ? Math.round(emitted / seconds) : 0,
  };
}
