/** What is told about a stream at its end: by `--summary` and `--checksum`, or in a line. */
import { rmSync } from "node:fs";
import { basename } from "node:path";
import type { EndpointSpec } from "../endpoint/spec.ts";
import { UserError } from "../errors.ts";
import {
  type NamedFile,
  type Place,
  placeOf,
  requireDifferentFile,
  explainFailure,
} from "../files/place.ts";
import type { Summary } from "../server/summary.ts";
import type { CliLog } from "./log.ts";

/** Milliseconds for somebody to come and read a report from a FIFO. */
const READER_LIMIT = 2000;

/** Where the JSON form goes. */
export type SummaryFormat =
  { readonly kind: "text" } | { readonly kind: "json"; readonly file: string | undefined };

/** What is to be told, and where. */
export interface ReportOptions {
  readonly summary: SummaryFormat;
  /** Where the line of `sha256sum` and its kin goes. */
  readonly checksumFile: string | undefined;
}

/** A report that has a file of its own. */
interface ReportFile extends NamedFile {
  /** What it is, for messages. */
  readonly what: string;
  /** Tells the text of such a report, of whatever stream, from others. */
  readonly isOne: (text: string) => boolean;
}

function reportFiles({ summary, checksumFile }: ReportOptions): ReportFile[] {
  const files: ReportFile[] = [];
  if (checksumFile !== undefined) {
    files.push({ name: "--checksum", path: checksumFile, what: "a checksum", isOne: isChecksum });
  }
  if (summary.kind === "json" && summary.file !== undefined) {
    files.push({ name: "--summary", path: summary.file, what: "a summary", isOne: isSummary });
  }
  return files;
}

/**
 * Finds out before a stream of hours whether its reports will have a place, at which nothing else is.
 *
 * @param others what the stream is made of and its pid file, which a report must not be written over
 * @throws UserError ERR_USAGE, ERR_FILE
 */
export async function requireReports(
  options: ReportOptions,
  others: readonly NamedFile[],
): Promise<void> {
  const files = reportFiles(options);
  for (const [i, file] of files.entries()) {
    requireDifferentFile(file, [...others, ...files.slice(0, i)]);
  }
  for (const file of files) explained(file, () => reportPlace(file));
  if (files.length > 0) await writers();
}

/**
 * Loaded only for who wants a report in a file, but before the stream: hours later there may be another
 * version of the program in their place.
 */
async function writers() {
  const [{ deliver }, { Draft }] = await Promise.all([
    import("../files/deliver.ts"),
    import("../files/draft.ts"),
  ]);
  return { deliver, Draft };
}

function reportPlace({ path, what, isOne }: ReportFile): Place {
  return placeOf(path, what, isOne);
}

/**
 * The reports of an earlier stream must not stand for the one that is about to begin.
 *
 * @throws UserError ERR_FILE
 */
export function removeReports(options: ReportOptions): void {
  for (const file of reportFiles(options)) {
    explained(file, () => {
      if (reportPlace(file).kind === "name") rmSync(file.path, { force: true });
    });
  }
}

function explained<T>({ path }: ReportFile, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new UserError("ERR_FILE", unwritable(path, error));
  }
}

function unwritable(path: string, error: unknown): string {
  return `cannot write ${path}: ${explainFailure(error)}`;
}

/**
 * Tells how the stream to or from `spec` has ended.
 *
 * @returns false when a report has not got to its file
 */
export async function report(
  summary: Summary,
  spec: EndpointSpec,
  options: ReportOptions,
  log: CliLog,
): Promise<boolean> {
  const { checksum, complete } = summary;
  let written = true;
  for (const file of reportFiles(options)) {
    const text = file.isOne === isSummary ? jsonLine(summary) : digestLine(summary, spec);
    if (text === undefined) continue;
    try {
      await writeReport(file, text);
    } catch (error) {
      written = false;
      const digest = checksum === null ? "" : ` (${checksum.algorithm} ${checksum.digest})`;
      const rest = complete ? `; the stream itself is complete${digest}` : "";
      log.error(`${unwritable(file.path, error)}${rest}`);
    }
  }
  if (options.summary.kind === "json" && options.summary.file === undefined) {
    log.raw(jsonLine(summary));
  } else if (complete) log.info(summaryText(summary));
  else log.error(summaryText(summary));
  return written;
}

/** There is a file only when all of the text is in it. */
async function writeReport(file: ReportFile, text: string): Promise<void> {
  const place = reportPlace(file);
  const { deliver, Draft } = await writers();
  if (place.kind !== "name") {
    await deliver(place, file.path, text, READER_LIMIT);
    return;
  }
  const draft = new Draft(file.path);
  try {
    draft.write(text);
    await draft.sync();
    // Somebody else may have put something there meanwhile.
    if (reportPlace(file).kind !== "name") throw new Error("it is not what it was a moment ago");
    draft.publish();
  } catch (error) {
    draft.discard();
    throw error;
  }
}

function jsonLine(summary: Summary): string {
  return `${JSON.stringify(summary)}\n`;
}

/** True for the object of a summary, of this version of the program or of another one. */
function isSummary(text: string): boolean {
  try {
    const { complete, bytes, data, zeroes } = JSON.parse(text) as Partial<Summary>;
    const numbers = [bytes, data, zeroes].every((number) => typeof number === "number");
    return typeof complete === "boolean" && numbers;
  } catch {
    return false;
  }
}

/** Of a stream that is truncated there is none: what is there of it can have no meaning. */
function digestLine({ checksum, complete }: Summary, spec: EndpointSpec): string | undefined {
  if (checksum === null || !complete) return undefined;
  return checksumLine(checksum.digest, subjectOf(spec));
}

/** True for one line of `sha256sum` and its kin. */
function isChecksum(text: string): boolean {
  return /^\\?(?:[0-9a-f]{32}|[0-9a-f]{64}|[0-9a-f]{128}) [ *][^\n]+\n?$/.test(text);
}

/** What the digest is of: a file that can be checked, or else whatever comes out of a pipe. */
function subjectOf(spec: EndpointSpec): string {
  return spec.kind === "path" ? basename(spec.path) : "-";
}

/** What `sha256sum -c` and its kin read. */
function checksumLine(digest: string, subject: string): string {
  // As the tools do it: a backslash at the front says that there are escapes in the name.
  const escaped = subject.replace(/[\\\n\r]/g, (c) => ESCAPES[c] as string);
  return `${escaped === subject ? "" : "\\"}${digest}  ${escaped}\n`;
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r" };

/** The summary in one line. */
function summaryText(summary: Summary): string {
  const { bytes, data, zeroes, seconds, bytesPerSecond } = summary;
  const rate = (bytesPerSecond / 2 ** 20).toFixed(1);
  const { window } = summary;
  const held = window === null ? "" : `, needed ${window.needed} of window=${window.size}`;
  const { checksum } = summary;
  const digest = checksum === null ? "" : `, ${checksum.algorithm} ${checksum.digest}`;
  return (
    `${bytes} bytes (data ${data}, zeroes ${zeroes}${held}) in ${seconds.toFixed(2)} s, ${rate} MiB/s${digest}: ` +
    (summary.complete ? "complete" : `truncated: ${summary.reason}`)
  );
}
