/** `check -- COMMAND`: dry runs of a client, which tell whether it streams, and by which line. */
import { statSync } from "node:fs";
import { captiveWords, commandOf, isPlainWord } from "../captive/command.ts";
import { imageSize } from "../captive/qemu-img.ts";
import { run } from "../captive/run.ts";
import { EXIT, UserError } from "../errors.ts";
import { resolveServe } from "../library/options.ts";
import type { Words } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import { formatSize, LARGEST_WINDOW, LEAST_WINDOW } from "../size.ts";
import { signalStatus } from "../process/signals.ts";
import { NOBODY } from "../server/observer.ts";
import type { StreamResult } from "../server/summary.ts";
import type { StreamContext } from "../server/settings.ts";
import type { StopSignal } from "../server/stop-signal.ts";
import type { DryRunFindings, Tally } from "../stream/messages.ts";
import { type ClientFindings, type Item, ItemList, type Trial } from "./report.ts";

/** Sizes of the window in bytes; the next one is tried when it might have what a client reads back. */
const WINDOWS = [LEAST_WINDOW, 2 ** 30, LARGEST_WINDOW];
/** The order of a client's writes depends on timing: another run may need a larger window. */
const MARGIN = 4;
/** Bytes. No disk is so large: a client that gets this far has found no end. */
const NO_END = 2 ** 60;

/** For checks that run a stream. */
export interface CheckContext extends Omit<StreamContext, "observer"> {
  readonly workerUrl: URL;
}

/** @throws UserError when a signal has ended the check */
export function requireNoSignal({ caught }: StopSignal): void {
  if (caught === undefined) return;
  throw new UserError("ERR_TRUNCATED", `the check was ended by ${caught}`, signalStatus(caught));
}

/** A disk image among the command's words. */
export interface Disk {
  readonly path: string;
  /** Bytes. */
  readonly size: bigint;
}

/**
 * Runs the command with the given `size=` or without one, and with other sizes where that does not work
 * and `size=` may be the reason.
 *
 * @param sink the value of `pipe=` in the line to use
 * @throws UserError when the command cannot be started, or a signal has ended it
 */
export async function checkClient(
  command: readonly string[],
  size: bigint | undefined,
  sink: string,
  context: CheckContext,
): Promise<{ findings: ClientFindings; items: readonly Item[]; status: number }> {
  const trials = [await tryWindows(command, size ?? null, context)];
  const disks = await disksAmong(command, context.stopSignal.stop);
  let next = nextSize(trials, disks, command);
  while (next !== undefined) {
    trials.push(await tryWindows(command, next, context));
    next = nextSize(trials, disks, command);
  }
  const findings = diagnose(trials, sink, command);
  return { findings, items: clientItems(findings, disks), status: statusOf(findings) };
}

/** Another size to try; null is none, undefined that there is nothing more to find out. */
function nextSize(
  trials: readonly Trial[],
  disks: readonly Disk[],
  command: readonly string[],
): bigint | null | undefined {
  const [first] = trials as [Trial];
  const last = trials.at(-1) as Trial;
  const isShort = last === first && copiesAll(command) && endsEarly(first, disks);
  if (!isShort && !mayNeedSize(last)) return undefined;
  const other = first.size === null ? disks[0]?.size : null;
  const tried = trials.map((trial) => trial.size);
  return [other, ownEnd(trials)].find((size) => size !== undefined && !tried.includes(size));
}

/** Calls {@link tryOut} with larger windows while they may make a difference. */
async function tryWindows(
  command: readonly string[],
  size: bigint | null,
  context: CheckContext,
): Promise<Trial> {
  let trial: Trial | undefined;
  for (const window of WINDOWS) {
    trial = await tryOut(command, size, window, context);
    if (works(trial) || !trial.survey.undecided) break;
  }
  return trial as Trial;
}

/**
 * Runs the command once, as a dry run. A real stream with a very large window would hold in memory all
 * data behind a gap that the client never fills, and would show nothing after the first late write.
 *
 * @param size the stream's length in bytes; null is none
 * @param window bytes that are kept ahead of the head, for a client that reads them back
 * @throws UserError when the command cannot be started, or a signal has ended it
 */
async function tryOut(
  command: readonly string[],
  size: bigint | null,
  window: number,
  { stopSignal, workerUrl, log, vocabulary }: CheckContext,
): Promise<Trial> {
  const options = size === null ? { window } : { size, window };
  const say = (message: Words) => log.verbose(message);
  const stream = {
    ...resolveServe({ ...options, pipe: "/dev/null", pad: false, idleTimeout: 0, workerUrl }),
    stopSignal,
    observer: NOBODY,
    log: { info: say, warn: say, verbose: say },
    vocabulary,
    dryRun: true,
  };
  const { results, commandStatus } = await run({
    streams: [stream],
    address: undefined,
    command: (variables) => captiveWords(commandOf(command), variables),
    outputTaken: true,
  });
  const { why, findings } = results[0] as StreamResult;
  requireNoSignal(stopSignal);
  if (findings === undefined) throw new Error("the stream thread has not told what it saw");
  const status = commandStatus ?? signalStatus("SIGKILL");
  const problem = why === undefined ? null : textOf(why, vocabulary);
  return { size, status, problem, survey: findings };
}

/** True when a real stream with the right window would be complete. */
function works({ problem, survey }: Trial): boolean {
  return problem === null && survey.window !== undefined && wroteSomething(survey) && ends(survey);
}

/** True when the command has failed, or has found no end, and only `size=` may be the reason. */
export function mayNeedSize({ status, survey }: Trial): boolean {
  if (status === 0 && ends(survey)) return false;
  return survey.readsBack.requests === 0 && survey.window !== undefined;
}

/** True when the stream is complete but ends before the only disk does. */
export function endsEarly(trial: Trial, disks: readonly Disk[]): boolean {
  const [disk] = disks;
  if (disk === undefined || disks.length > 1 || trial.size !== null) return false;
  return works(trial) && trial.survey.end < disk.size;
}

function wroteSomething({ writes, zeroes }: DryRunFindings): boolean {
  return writes.requests + zeroes.requests > 0;
}

function ends({ end }: DryRunFindings): boolean {
  return end < NO_END;
}

/** The end of the command's writes, without `size=`: a format may want the disk to end there. */
function ownEnd(trials: readonly Trial[]): bigint | undefined {
  const { survey } = trials.find(({ size }) => size === null) ?? {};
  const isEnd = survey !== undefined && wroteSomething(survey) && ends(survey);
  return isEnd ? BigInt(survey.end) : undefined;
}

/** True for programs that copy the whole disk, but may leave out the zeroes at its end. */
function copiesAll(command: readonly string[]): boolean {
  return /^(\S*\/)?(qemu-img convert|nbdcopy) /.test(command.join(" "));
}

/** The exit status of a real stream: the command's own if it has failed by itself. */
function statusOf({ streams, readsBack, trials }: ClientFindings): number {
  if (streams) return EXIT.COMPLETE;
  const { status } = trials.at(-1) as Trial;
  return status !== 0 && !readsBack ? status : EXIT.TRUNCATED;
}

/** The disk images among the command's words, the largest first. */
async function disksAmong(command: readonly string[], stop: AbortSignal): Promise<Disk[]> {
  // In a line for the shell, only plain names are found.
  const words = command.length === 1 ? (command[0] as string).split(/\s+/) : command;
  const found: Disk[] = [];
  for (const word of words.slice(1)) {
    const path = word.replace(/^(['"])(.*)\1$/, "$2");
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) continue;
    try {
      found.push({ path, size: await imageSize(path, undefined, stop) });
    } catch {
      // No image, or no qemu-img.
    }
  }
  return found.toSorted((a, b) => Number(b.size - a.size));
}

/** @param trials at least one, in the order of the runs */
export function diagnose(
  trials: readonly Trial[],
  sink: string,
  command: readonly string[],
): ClientFindings {
  const last = trials.at(-1) as Trial;
  const good = trials.findLast(works);
  const { survey, size } = good ?? last;
  const common = { readsBack: survey.readsBack.requests > 0, trials };
  if (good === undefined) {
    const none = { streams: false, line: null, size: null, window: 0 } as const;
    return { ...none, why: whyNot(last), impossible: isImpossible(last), ...common };
  }
  const window = windowFor(survey);
  const line = runLine(sink, size, window, command);
  return { streams: true, line, why: null, impossible: false, size, window, ...common };
}

/** True when no window helps, or the command fails because it cannot read its data back. */
function isImpossible({ status, survey }: Trial): boolean {
  if (survey.window === undefined) return !survey.scattered && !survey.undecided;
  return status !== 0 && survey.readsBack.requests > 0;
}

function windowFor({ window, concurrent }: DryRunFindings): number {
  const { size, largest } = window ?? { size: 0, largest: 0 };
  // Concurrent writes may arrive in another order next time.
  if (size === 0 && !concurrent) return 0;
  return Math.min(largest, Math.max(LEAST_WINDOW, size * MARGIN));
}

function whyNot({ problem, survey }: Trial): string {
  if (problem !== null) return problem;
  if (!wroteSomething(survey)) return "the command has written nothing: does it write to $nbd?";
  if (!ends(survey)) {
    return "the command writes up to the end of a disk that has none: give size=, the disk's size";
  }
  if (survey.scattered) {
    return `the command scatters its writes over more places than are followed here: try window=${formatSize(LARGEST_WINDOW)}`;
  }
  const [first] = survey.places;
  const where = first === undefined ? "" : `, the first time with ${first.request}`;
  return (
    "the command does not write from start to end: it goes back " +
    `${survey.backward.requests} times${where}, to what no window= has room for`
  );
}

/** @param disks the images among the command's words */
export function clientItems({ trials, why }: ClientFindings, disks: readonly Disk[]) {
  const found = new ItemList("client");
  for (const trial of trials) addTrial(found, trial, disks, why !== null);
  const { survey } = trials.findLast(works) ?? (trials.at(-1) as Trial);
  if (!wroteSomething(survey)) return found.items;
  addOrder(found, survey);
  addWindow(found, survey);
  const { readsBack } = survey;
  if (readsBack.requests > 0) {
    found.add("warning", "reads", `${tally(readsBack)} of what has gone by, which is lost`);
  }
  return found.items;
}

/** @param failed no trial works */
function addTrial(found: ItemList, trial: Trial, disks: readonly Disk[], failed: boolean): void {
  const how = trial.size === null ? "without size=" : `with size=${trial.size}`;
  const [disk] = disks;
  if (!works(trial)) {
    const text = `${how} it does not work: ${whyNot(trial)}`;
    found.add(failed ? "failed" : "note", "try", text);
  } else if (disk !== undefined && endsEarly(trial, disks)) {
    const text = `${how} it ends at byte ${trial.survey.end}, but ${disk.path} is a disk of ${disk.size}`;
    found.add("warning", "try", `${text}: if all of it is copied, add size=${disk.size}`);
  } else {
    found.add("ok", "try", `${how} it works, up to byte ${trial.survey.end}`);
  }
}

function tally({ requests, bytes }: Tally): string {
  return `${requests} (${bytes} bytes)`;
}

/** Adds how many requests went back, and the first of them. */
function addOrder(found: ItemList, survey: DryRunFindings): void {
  const { backward, farthest, concurrent, places } = survey;
  const several = concurrent ? ", several at a time" : ", one after the other";
  if (backward.requests === 0) return found.add("ok", "order", `from start to end${several}`);
  found.add("warning", "order", `${tally(backward)} went back, up to ${farthest} bytes${several}`);
  for (const { request, head } of places) {
    found.add("note", "goes back", `${request} came when the data had reached byte ${head}`);
  }
}

function addWindow(found: ItemList, survey: DryRunFindings): void {
  const { window: fit } = survey;
  if (fit === undefined) return;
  const advised = windowFor(survey);
  if (advised === 0) return found.add("ok", "window=", "not needed");
  const perhaps = "not needed this time, but the order may be another one next time";
  const needed = `needed: ${formatSize(fit.size)} has room, of which ${fit.needed} bytes had to be held at once`;
  const text = fit.size === 0 ? perhaps : needed;
  found.add("note", "window=", `${text}; ${formatSize(advised)} to be safe`);
}

/** @param sink the value of `pipe=` @param size bytes; null is none @param window bytes; 0 is none */
export function runLine(
  sink: string,
  size: bigint | null,
  window: number,
  command: readonly string[],
): string {
  const words = ["nbd-streaming", "run", `pipe=${sink}`];
  if (size !== null) words.push(`size=${size}`);
  if (window > 0) words.push(`window=${formatSize(window)}`);
  return [...words, "--", ...command].map(quoted).join(" ");
}

/** A word for the shell, in quotes if needed. */
export function quoted(word: string): string {
  return isPlainWord(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
