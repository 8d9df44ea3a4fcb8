/** What is told about a stream at its end: by `--summary` and `--checksum`, or in a line. */
import { accessSync, constants, lstatSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { Target } from "../endpoint/prepare/target.ts";
import { messageOf, UserError } from "../errors.ts";
import type { Summary } from "../server/summary.ts";
import type { CliLog } from "./log.ts";

/** Where the JSON form goes. */
export type SummaryFormat =
  { readonly kind: "text" } | { readonly kind: "json"; readonly file: string | undefined };

/** What is to be told, and where. */
export interface ReportOptions {
  readonly summary: SummaryFormat;
  /** Where the line of `sha256sum` and its kin goes. */
  readonly checksumFile: string | undefined;
}

/**
 * Finds out before a stream of hours whether its reports will have a place.
 *
 * @throws UserError ERR_FILE
 */
export function requirePlaces(options: ReportOptions): void {
  for (const file of reportFiles(options)) requirePlace(file);
}

function requirePlace(file: string): void {
  try {
    const stats = lstatSync(file, { throwIfNoEntry: false });
    if (stats?.isDirectory() === true) throw new Error("it is a folder");
    // A file is made anew; what stands for another one is known only when it is written to.
    if (stats === undefined || stats.isFile()) accessSync(dirname(file), constants.W_OK);
  } catch (error) {
    throw new UserError("ERR_FILE", unwritable(file, error));
  }
}

function unwritable(file: string, error: unknown): string {
  return `cannot write ${file}: ${messageOf(error)}; check the folder`;
}

/** The reports of an earlier stream must not stand for the one that begins. */
export function removeReports(options: ReportOptions): void {
  for (const file of reportFiles(options)) removeReport(file);
}

function reportFiles({ summary, checksumFile }: ReportOptions): string[] {
  const files = [checksumFile, summary.kind === "json" ? summary.file : undefined];
  return files.filter((file) => file !== undefined);
}

/** Not a device or a pipe that stands in its place. */
function removeReport(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false })?.isFile()) rmSync(file, { force: true });
}

/** Tells how the stream to or from `target` has ended. */
export function report(
  summary: Summary,
  target: Target,
  { summary: format, checksumFile }: ReportOptions,
  log: CliLog,
): void {
  const { checksum, complete } = summary;
  if (checksumFile !== undefined && checksum !== null && complete) {
    writeReport(checksumFile, checksumLine(checksum.digest, subjectOf(target)), log);
  }
  if (format.kind === "json") {
    const json = `${JSON.stringify(summary)}\n`;
    if (format.file === undefined) {
      log.raw(json);
      return;
    }
    writeReport(format.file, json, log);
  }
  if (complete) log.info(summaryText(summary));
  else log.error(summaryText(summary));
}

/** What the digest is of: a file that can be checked, or else whatever comes out of a pipe. */
function subjectOf(target: Target): string {
  return target.kind === "path" ? basename(target.path) : "-";
}

/** What `sha256sum -c` and its kin read. */
function checksumLine(digest: string, subject: string): string {
  // As the tools do it: a backslash at the front says that there are escapes in the name.
  const escaped = subject.replace(/[\\\n\r]/g, (c) => ESCAPES[c] as string);
  return `${escaped === subject ? "" : "\\"}${digest}  ${escaped}\n`;
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r" };

function writeReport(file: string, text: string, log: CliLog): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    log.error(unwritable(file, error));
  }
}

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
