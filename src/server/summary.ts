/** The last word on a stream. */
import { lstatSync, rmSync, writeFileSync } from "node:fs";
import { messageOf } from "../errors.ts";
import type { Counters } from "../stream/counters.ts";
import type { Ended, StreamPlan } from "../stream/messages.ts";
import type { Log } from "./log.ts";

/** How a stream has ended. */
export interface Verdict {
  /** The program's exit status. */
  readonly status: number;
  /** Why the stream is truncated; undefined when it is complete. */
  readonly why: string | undefined;
}

/** Everything that is told about a stream at its end; the names are those of the JSON form. */
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
  /** With `window=`: its size, and how much of it was needed; else null. Bytes. */
  readonly window: { readonly size: number; readonly needed: number } | null;
  /** With `read=`: bytes found behind the stream's size (there may be more); else null. */
  readonly surplus: number | null;
}

/** What a summary is made of. */
export interface SummaryParts {
  readonly plan: StreamPlan;
  readonly counters: Counters;
  /** From the first client to now. */
  readonly seconds: number;
  /** Undefined when the stream thread has not told. */
  readonly end: Ended | undefined;
  /** Bytes found behind the stream's size; undefined when none were. */
  readonly surplus: number | undefined;
}

export function summarize(
  { why }: Verdict,
  { plan, counters, seconds, end, surplus }: SummaryParts,
): Summary {
  const { data, zeroes, emitted } = counters;
  const { checksum: algorithm, window: size } = plan;
  const { checksum: digest, windowNeeded: needed = 0 } = end ?? {};
  return {
    complete: why === undefined,
    reason: why ?? null,
    bytes: emitted,
    data,
    zeroes,
    seconds,
    checksum: algorithm === undefined || digest === undefined ? null : { algorithm, digest },
    window: size === 0 ? null : { size, needed },
    surplus: surplus ?? null,
    bytesPerSecond: seconds > 0 ? Math.round(emitted / seconds) : 0,
  };
}

/** Where the JSON form goes. */
export type SummaryFormat =
  { readonly kind: "text" } | { readonly kind: "json"; readonly file: string | undefined };

/** Where the line of `sha256sum` and its kin goes. */
export interface ChecksumFile {
  readonly file: string;
  /** What the line says the digest is of. */
  readonly subject: string;
}

/** Writes the line that `sha256sum -c` and its kin read. */
export function writeChecksum({ checksum }: Summary, target: ChecksumFile, log: Log): void {
  if (checksum === null) return;
  // As the tools do it: a backslash at the front says that there are escapes in the name.
  const subject = target.subject.replace(/[\\\n\r]/g, (c) => ESCAPES[c] as string);
  const mark = subject === target.subject ? "" : "\\";
  writeReport(target.file, `${mark}${checksum.digest}  ${subject}\n`, log);
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r" };

/** Removes what an earlier run has written; not a device or a pipe that stands in its place. */
export function removeReport(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false })?.isFile()) rmSync(file, { force: true });
}

/** Tells how the stream has ended: a line for people, or one for programs. */
export function reportSummary(summary: Summary, format: SummaryFormat, log: Log): void {
  const json = `${JSON.stringify(summary)}\n`;
  if (format.kind === "json" && format.file === undefined) {
    log.raw(json);
    return;
  }
  if (format.kind === "json" && format.file !== undefined) writeReport(format.file, json, log);
  if (summary.complete) log.info(summaryText(summary));
  else log.error(summaryText(summary));
}

function writeReport(file: string, text: string, log: Log): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    log.error(`cannot write ${file}: ${messageOf(error)}; check the folder`);
  }
}

/** The summary in one line. */
export function summaryText(summary: Summary): string {
  const { bytes, data, zeroes, seconds, bytesPerSecond } = summary;
  const rate = (bytesPerSecond / 2 ** 20).toFixed(1);
  const { window } = summary;
  const held = window === null ? "" : `, window ${window.needed} of ${window.size} needed`;
  const { checksum } = summary;
  const digest = checksum === null ? "" : `, ${checksum.algorithm} ${checksum.digest}`;
  return (
    `${bytes} bytes (data ${data}, zeroes ${zeroes}${held}) in ${seconds.toFixed(2)} s, ${rate} MiB/s${digest}: ` +
    (summary.complete ? "complete" : `truncated: ${summary.reason}`)
  );
}
