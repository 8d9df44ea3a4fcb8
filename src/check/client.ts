/** `check -- COMMAND`: dry runs of a client, which tell whether it streams, and by which line. */
import { statSync } from "node:fs";
import { captiveWords, commandOf, isPlainWord } from "../captive/command.ts";
import { imageSize } from "../captive/qemu-img.ts";
import { run } from "../captive/run.ts";
import { EXIT } from "../errors.ts";
import { resolveServe } from "../library/options.ts";
import type { Log } from "../log.ts";
import type { Words } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import { formatSize, LARGEST_WINDOW, LEAST_WINDOW } from "../size.ts";
import { signalStatus } from "../process/signals.ts";
import { NOBODY } from "../server/observer.ts";
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
export interface CheckContext {
  readonly stopSignal: StopSignal;
  readonly workerUrl: URL;
  readonly log: Log;
  /** For the text of the findings. */
  readonly vocabulary: Vocabulary;
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
 * @returns undefined when a signal has ended it
 * @throws UserError when the command cannot be started
 */
export async function checkClient(
  command: readonly string[],
  size: bigint | undefined,
  sink: string,
  context: CheckContext,
): Promise<{ findings: ClientFindings; items: readonly Item[]; status: number } | undefined> {
  const first = await tryWindows(command, size, context);
  if (first === undefined) return undefined;
  const trials = [first];
  const disks = await disksAmong(command, context.stopSignal.stop);
  const largest = disks.reduce((most, disk) => (disk.size > most ? disk.size : most), 0n);
  const short = copiesAll(command) && endsEarly(first, disks);
  // The size of the largest disk, or none where one was given; then the end of the command's writes.
  const others = [() => (size === undefined ? largest || undefined : null), () => ownEnd(trials)];
  for (const other of others) {
    const last = trials.at(-1) as Trial;
    const isShort = short && trials.length === 1;
    if (!isShort && (works(last) || !mayNeedSize(last))) break;
    const next = other();
    if (next === undefined || trials.some((trial) => trial.size === next)) continue;
    const trial = await tryWindows(command, next ?? undefined, context);
    if (trial === undefined) return undefined;
    trials.push(trial);
  }
  const findings = diagnose(trials, size, { sink, command });
  return { findings, items: clientItems(findings, disks), status: statusOf(findings) };
}

/** Calls {@link tryOut} with larger windows while they may make a difference. */
async function tryWindows(
  command: readonly string[],
  size: bigint | undefined,
  context: CheckContext,
): Promise<Trial | undefined> {
  let last: Trial | undefined;
  for (const window of WINDOWS) {
    last = await tryOut(command, size, window, context);
    if (last === undefined || works(last) || !last.survey.undecided) break;
  }
  return last;
}

/**
 * Runs the command once, as a dry run. A real stream with a very large window would hold in memory all
 * data behind a gap that the client never fills, and would show nothing after the first late write.
 *
 * @param size the stream's length in bytes; undefined for none
 * @param window bytes that are kept ahead of the head, for a client that reads them back
 * @returns undefined when a signal has ended it
 * @throws UserError when the command cannot be started
 */
async function tryOut(
  command: readonly string[],
  size: bigint | undefined,
  window: number,
  { stopSignal, workerUrl, log, vocabulary }: CheckContext,
): Promise<Trial | undefined> {
  const say = (message: Words) => log.verbose(message);
  const { why, commandStatus, findings } = await run({
    ...resolveServe({ pipe: "/dev/null", size, window, pad: false, idleTimeout: 0, workerUrl }),
    stopSignal,
    observer: NOBODY,
    log: { info: say, warn: say, verbose: say },
    vocabulary,
    dryRun: true,
    address: undefined,
    command: (variables) => captiveWords(commandOf(command), variables),
    outputTaken: true,
  });
  if (stopSignal.caught !== undefined) return undefined;
  if (findings === undefined) throw new Error("the stream thread has not told what it saw");
  const status = commandStatus ?? signalStatus("SIGKILL");
  const problem = why === undefined ? null : textOf(why, vocabulary);
  return { size: size ?? null, status, problem, survey: findings };
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

/** The disk images among the command's words. */
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
  return found;
}

/** @param trials at least one, in the order of the runs @param given the user's `size=` */
export function diagnose(
  trials: readonly Trial[],
  given: bigint | undefined,
  { sink, command }: Pick<RunLine, "sink" | "command">,
): ClientFindings {
  const good = trials.findLast(works);
  const last = trials.at(-1) as Trial;
  const { survey, size } = good ?? last;
  const common = { readsBack: survey.readsBack.requests > 0, trials };
  if (good === undefined) {
    const none = { streams: false, line: null, size: null, window: 0 } as const;
    return { ...none, why: whyNot(last), impossible: isImpossible(last), ...common };
  }
  const window = windowFor(survey);
  const line = runLine({ sink, size: size ?? undefined, window, command });
  const without = size === null ? "not needed" : "needed";
  const kept = size === given ? "not tried without" : "minded";
  const role = given === undefined ? without : kept;
  return { streams: true, line, why: null, impossible: false, size: role, window, ...common };
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
export function clientItems(findings: ClientFindings, disks: readonly Disk[]): readonly Item[] {
  const { trials, why, size } = findings;
  const trial = trials.findLast(works) ?? (trials.at(-1) as Trial);
  const { survey } = trial;
  const found = new ItemList("client");
  found.add("note", "tries", trials.map((one) => tryText(one, why)).join("; "));
  if (wroteSomething(survey)) {
    found.add("note", "writes", `${tally(survey.writes)}, zeroes ${tally(survey.zeroes)}`);
    found.add("note", "left out", `${tally(survey.gaps)} when a write behind it came`);
    addOrder(found, survey);
    addWindow(found, findings, survey);
    if (size === "minded") {
      const instead = trial.size === null ? "without" : `with ${trial.size} in place of`;
      found.add("warning", "size=", `it works only ${instead} the size= that was given`);
    } else if (size !== null) {
      const given = size === "not tried without" ? `given: ${trial.size}` : size;
      found.add("note", "size=", size === "needed" ? whyNeeded(trials[0] as Trial) : given);
    }
    found.add(survey.readsBack.requests > 0 ? "warning" : "ok", "reads", readsText(survey));
    const [disk] = disks;
    if (disk !== undefined && endsEarly(trial, disks)) {
      const text = `the stream ends at byte ${survey.end}, but ${disk.path} is a disk of ${disk.size}`;
      found.add("warning", "end", `${text}: if all of it is copied, add size=${disk.size}`);
    }
  }
  if (why === null) found.add("ok", "verdict", "it streams");
  else found.add("failed", "verdict", why);
  return found.items;
}

/** @param told the verdict's reason, which is not repeated */
function tryText(trial: Trial, told: string | null): string {
  const how = trial.size === null ? "without size=" : `with size=${trial.size}`;
  if (works(trial)) return `${how} it works, up to byte ${trial.survey.end}`;
  const why = whyNot(trial);
  return why === told ? `${how} it does not work` : `${how} it does not work: ${why}`;
}

function tally({ requests, bytes }: Tally): string {
  return `${requests} (${bytes} bytes)`;
}

/** Adds the first requests that went back, and the number of the others. */
function addOrder(found: ItemList, survey: DryRunFindings): void {
  const { backward, farthest, concurrent, places } = survey;
  const several = concurrent ? ", several at a time" : ", one after the other";
  if (backward.requests === 0) return found.add("ok", "order", `from start to end${several}`);
  found.add("warning", "order", `${tally(backward)} went back, up to ${farthest} bytes${several}`);
  for (const { request, head } of places) {
    found.add("note", "goes back", `${request} came when the data had reached byte ${head}`);
  }
  const more = backward.requests - places.length;
  if (more > 0) found.add("note", "goes back", `and ${more} times more`);
}

function addWindow(
  found: ItemList,
  { window, streams }: ClientFindings,
  { window: fit, scattered }: DryRunFindings,
): void {
  const name = "window=";
  const none = "none has room for what it goes back to";
  if (fit === undefined) {
    found.add("failed", name, scattered ? "not known: too many places" : none);
  } else if (fit.size > 0) {
    const text = `needed: ${formatSize(fit.size)} has room, of which ${fit.needed} bytes had to be held at once`;
    found.add("note", name, streams ? `${text}; ${formatSize(window)} to be safe` : text);
  } else if (window === 0) {
    found.add("ok", name, "not needed");
  } else {
    const text = "not needed this time, but the order may be another one next time";
    found.add("note", name, `${text}: ${formatSize(window)}`);
  }
}

function whyNeeded(first: Trial): string {
  return works(first)
    ? `needed: without it the stream ends at byte ${first.survey.end}, before the disk does`
    : "needed: without it the command does not work";
}

function readsText({ reads, readsHeld, readsBack }: DryRunFindings): string {
  if (reads.requests === 0) return "it reads nothing";
  if (readsBack.requests > 0) return `${tally(readsBack)} of what has gone by, which is lost`;
  if (readsHeld.requests === 0) return `${tally(reads)}, nothing of what it has written`;
  return `${tally(readsHeld)} of what it has written, out of the window`;
}

export interface RunLine {
  /** The value of `pipe=`. */
  readonly sink: string;
  /** Bytes; undefined is none. */
  readonly size: bigint | undefined;
  /** Bytes; 0 is none. */
  readonly window: number;
  readonly command: readonly string[];
}

export function runLine({ sink, size, window, command }: RunLine): string {
  const words = ["nbd-streaming", "run", `pipe=${sink}`];
  if (size !== undefined) words.push(`size=${size}`);
  if (window > 0) words.push(`window=${formatSize(window)}`);
  return [...words, "--", ...command].map(quoted).join(" ");
}

/** A word for the shell, in quotes if needed. */
export function quoted(word: string): string {
  return isPlainWord(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
