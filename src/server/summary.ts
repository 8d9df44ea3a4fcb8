/** The last word on a stream. */
import { writeFileSync } from "node:fs";
import { messageOf } from "../errors.ts";
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
  /** Bytes that the sink has accepted, and of these, those of clients and zeroes. */
  readonly bytes: number;
  readonly data: number;
  readonly zeroes: number;
  readonly seconds: number;
  readonly bytesPerSecond: number;
  /** With `window=`: its size, and how far ahead data came at the most; else null. Bytes. */
  readonly window: { readonly size: number; readonly needed: number } | null;
}

/** Where the JSON form goes. */
export type SummaryFormat =
  { readonly kind: "text" } | { readonly kind: "json"; readonly file: string | undefined };

/** Tells how the stream has ended: a line for people, or one for programs. */
export function reportSummary(summary: Summary, format: SummaryFormat, log: Log): void {
  const json = `${JSON.stringify(summary)}\n`;
  if (format.kind === "json" && format.file === undefined) {
    log.raw(json);
    return;
  }
  if (format.kind === "json" && format.file !== undefined) {
    try {
      writeFileSync(format.file, json);
    } catch (error) {
      log.error(`cannot write the summary: ${messageOf(error)}; check the folder`);
    }
  }
  if (summary.complete) log.info(summaryText(summary));
  else log.error(summaryText(summary));
}

/** The summary in one line. */
export function summaryText(summary: Summary): string {
  const { bytes, data, zeroes, seconds, bytesPerSecond } = summary;
  const rate = (bytesPerSecond / 2 ** 20).toFixed(1);
  const { window } = summary;
  const held = window === null ? "" : `, window ${window.needed} of ${window.size} needed`;
  return (
    `${bytes} bytes (data ${data}, zeroes ${zeroes}${held}) in ${seconds.toFixed(2)} s, ${rate} MiB/s: ` +
    (summary.complete ? "complete" : `truncated: ${summary.reason}`)
  );
}
