/** What dry runs of a client come to: whether it streams, by which line, and why. */
import { isPlainWord } from "../captive/command.ts";
import { EXIT } from "../errors.ts";
import { formatSize, LEAST_WINDOW } from "../size.ts";
import type { DryRunFindings, Tally } from "../stream/messages.ts";
import { type ClientFindings, ItemList, type Trial } from "./report.ts";
import { type SpoolFolder, USUAL_FOLDER } from "./spool.ts";

/** The order of a client's writes depends on timing: another run may need a larger window. */
const MARGIN = 4;
/**
 * Bytes of memory, the largest `window=` that is advised. What a client is ahead by more than that grows with the
 * disk as a rule, and a disk costs less.
 */
const MOST_MEMORY = 2 ** 30;
/** Bytes. No disk is so large: a client that gets this far has found no end. */
const NO_END = 2 ** 60;

/** A disk image among the command's words. */
export interface Disk {
  readonly path: string;
  /** Bytes. */
  readonly size: bigint;
}

/** What the user wants to have in the line. */
export interface AskedLine {
  readonly command: readonly string[];
  /** The value of `pipe=`. */
  readonly sink: string;
  /** The value of `spool=`: it is preferred to a window. */
  readonly spool: string | undefined;
}

/** The parameters and options that make the command stream. */
type Needs = Pick<ClientFindings, "size" | "window" | "spool" | "hold" | "noPad" | "room">;

/** True when a real stream with the right parameters would be complete. */
export function works(trial: Trial): boolean {
  const { problem, survey } = trial;
  return problem === null && fits(trial) && wroteSomething(survey) && ends(survey);
}

/** True when the stream would have taken what the client has written, in that order. */
export function fits({ mode, survey }: Trial): boolean {
  return mode === "hold" || survey.window !== undefined || survey.spool !== undefined;
}

/** True when the stream is complete but ends before the only disk does. */
export function endsEarly(trial: Trial, disks: readonly Disk[]): boolean {
  const [disk] = disks;
  if (disk === undefined || disks.length > 1 || trial.size !== null) return false;
  return works(trial) && trial.format === null && trial.survey.end < disk.size;
}

export function wroteSomething({ writes, zeroes }: DryRunFindings): boolean {
  return writes.requests + zeroes.requests > 0;
}

export function ends({ end }: DryRunFindings): boolean {
  return end < NO_END;
}

/** The exit status of a real stream: the command's own if it has failed by itself. */
export function statusOf({ streams, readsBack, trials }: ClientFindings): number {
  if (streams) return EXIT.COMPLETE;
  const { status } = trials.at(-1) as Trial;
  return status !== 0 && !readsBack ? status : EXIT.TRUNCATED;
}

/** @param trials at least one, in the order of the runs */
export function diagnose(trials: readonly Trial[], asked: AskedLine): ClientFindings {
  const last = trials.at(-1) as Trial;
  const good = trials.findLast(works);
  const common = { readsBack: (good ?? last).survey.readsBack.requests > 0, trials };
  if (good === undefined) {
    const impossible = last.mode === "hold" && !last.spoolFailed;
    return { streams: false, line: null, why: whyNot(last), impossible, ...NOTHING, ...common };
  }
  const needs = needsOf(good, asked.spool);
  const line = runLine(asked, needs);
  return { streams: true, line, why: null, impossible: false, ...needs, ...common };
}

const NOTHING: Needs = { size: null, window: 0, spool: null, hold: false, noPad: false, room: 0 };

/** The least that a client needs, or a spool in the user's folder. */
function needsOf({ mode, size, format, survey }: Trial, folder: string | undefined): Needs {
  const spool = folder ?? USUAL_FOLDER;
  if (mode === "hold") {
    // Padded, an image would have zeroes behind its end, where some formats look for their last part.
    const noPad = format !== null && size !== null && survey.end < size;
    return { ...NOTHING, size, spool, hold: true, noPad, room: survey.held ?? 0 };
  }
  const window = windowFor(survey);
  const isSmall = window !== undefined && (window === 0 || folder === undefined);
  if (survey.spool === undefined || isSmall) return { ...NOTHING, size, window: window ?? 0 };
  return { ...NOTHING, size, spool, room: survey.spool.needed };
}

/** The window to advise in bytes, 0 for none; undefined where none is small enough to be. */
function windowFor({ window, spool, concurrent }: DryRunFindings): number | undefined {
  if (window === undefined) return undefined;
  const { size, largest } = window;
  // Concurrent writes may arrive in another order next time.
  if (size === 0 && !concurrent) return 0;
  const advised = Math.max(LEAST_WINDOW, size * MARGIN);
  if (advised > MOST_MEMORY && spool !== undefined) return undefined;
  return Math.min(largest, advised);
}

/** Formats whose drivers in qemu put data behind the end of the file. */
function grows(format: string | null): boolean {
  return format === "vmdk" || format === "vhdx";
}

const GROWS = "such an image has to grow, and a disk over NBD does not: make it in a file";

function whyNot(trial: Trial): string {
  const { mode, format, problem, survey } = trial;
  if (!ends(survey)) {
    return "the command writes up to the end of a disk that has none: give size=, the disk's size";
  }
  if (problem !== null) return mode === "hold" && grows(format) ? `${problem}; ${GROWS}` : problem;
  if (!wroteSomething(survey)) return "the command has written nothing: does it write to $nbd?";
  const [first] = survey.places;
  const where = first === undefined ? "" : `, the first time with ${first.request}`;
  return (
    "the command does not write each place once: it goes back " +
    `${survey.backward.requests} times${where}, which needs --hold`
  );
}

/**
 * @param disks the images among the command's words
 * @param folder that of the spool, where one is needed
 */
export function clientItems(
  findings: ClientFindings,
  disks: readonly Disk[],
  folder?: SpoolFolder,
) {
  const { trials, why } = findings;
  const found = new ItemList("client");
  for (const trial of trials) addTrial(found, trial, disks, why !== null);
  const { mode, survey } = trials.findLast(works) ?? (trials.at(-1) as Trial);
  if (wroteSomething(survey)) {
    addOrder(found, survey);
    addWindow(found, survey, findings);
    const { readsBack } = survey;
    if (readsBack.requests > 0) {
      const text = `${tally(readsBack)} of what has gone by`;
      if (mode === "hold") found.add("note", "reads", `${text} in a stream that is not held`);
      else found.add("warning", "reads", `${text}, which is lost`);
    }
  }
  addSpool(found, findings, folder);
  return found.items;
}

/** @param failed no trial works */
function addTrial(found: ItemList, trial: Trial, disks: readonly Disk[], failed: boolean): void {
  const { mode, size, survey } = trial;
  const by = { window: "", spool: "with spool= and ", hold: "with --hold and " }[mode];
  const how = `${by}${size === null ? "without size=" : `with size=${size}`}`;
  const [disk] = disks;
  if (!works(trial)) {
    const text = `${how} it does not work: ${whyNot(trial)}`;
    found.add(failed ? "failed" : "note", "try", text);
  } else if (disk !== undefined && endsEarly(trial, disks)) {
    const text = `${how} it ends at byte ${survey.end}, but ${disk.path} is a disk of ${disk.size}`;
    found.add("warning", "try", `${text}: if all of it is copied, add size=${disk.size}`);
  } else {
    found.add("ok", "try", `${how} it works, up to byte ${survey.end}`);
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

function addWindow(found: ItemList, survey: DryRunFindings, findings: ClientFindings): void {
  const { streams, window, spool } = findings;
  const { window: fit } = survey;
  if (fit === undefined || spool !== null || !streams) return;
  if (window === 0) return found.add("ok", "window=", "not needed");
  const perhaps = "not needed this time, but the order may be another one next time";
  const needed = `needed: ${formatSize(fit.size)} has room, of which ${fit.needed} bytes had to be held at once`;
  const text = fit.size === 0 ? perhaps : needed;
  found.add("note", "window=", `${text}; ${formatSize(window)} to be safe`);
}

/** Adds what the spool is needed for, and whether the folder has room; or why it is of no use. */
function addSpool(found: ItemList, needs: Needs, folder: SpoolFolder | undefined): void {
  const { hold, room } = needs;
  if (hold) found.add("note", "--hold", "needed: the client uses the stream as a disk");
  if (folder === undefined) return;
  const { path, problem, onlyHeld, free } = folder;
  const unusable = problem ?? (hold ? undefined : onlyHeld);
  if (unusable !== undefined) return found.add("failed", "spool=", unusable);
  const what = hold ? "the data takes" : "ahead of their turn at once were";
  const text = `${what} ${room} bytes, and ${path} has ${free} free`;
  if (needs.spool === null) return;
  if (room <= free) found.add("note", "spool=", `needed: ${text}`);
  else found.add("failed", "spool=", `${text}: name a folder with more, spool=DIR`);
}

/** A line with what is needed. */
function runLine({ command, sink }: AskedLine, needs: Needs): string {
  const { size, window, spool, hold, noPad } = needs;
  const words = ["nbd-streaming", "run", `pipe=${sink}`];
  if (size !== null) words.push(`size=${size}`);
  if (window > 0) words.push(`window=${formatSize(window)}`);
  if (spool !== null) words.push(`spool=${spool}`);
  if (hold) words.push("--hold");
  if (noPad) words.push("--no-pad");
  return [...words, "--", ...command].map(quoted).join(" ");
}

/** A word for the shell, in quotes if needed. */
export function quoted(word: string): string {
  return isPlainWord(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
