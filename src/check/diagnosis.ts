/** What dry runs of a client come to: whether it streams, and by which line. */
import type { DryRunFindings } from "../stream/messages.ts";
import { formatSize, LARGEST_WINDOW, LEAST_WINDOW } from "../size.ts";
import { type RunLine, runLine } from "./command-line.ts";
import type { Trial } from "./dry-run.ts";
import type { Item } from "./item.ts";

/** The order of a client's writes depends on timing: the next run may need more than this one. */
const MARGIN = 4;
/** No disk ends there, in bytes: a client that gets this far takes the stream's lack of an end for one. */
const NO_END = 2 ** 60;

type SizeRole = "needed" | "minded" | "not needed" | "not tried without";

/** The names are those of the JSON form; sizes are in bytes. */
export interface ClientFindings {
  /** It writes what can be streamed, by {@link line}. */
  readonly streams: boolean;
  /** The line to use; null when none works. */
  readonly line: string | null;
  /** Why none works; null when one does. */
  readonly why: string | null;
  /** No `window=` would make a difference: the command cannot be streamed as it is. */
  readonly impossible: boolean;
  /** Whether `size=` has to be given, or must not be the one that was; null where no line works. */
  readonly size: SizeRole | null;
  /** The `window=` of the line; 0 is none. */
  readonly window: number;
  readonly readsBack: boolean;
  readonly trials: readonly Trial[];
}

/** True when a real stream, with the right window, would have been complete. */
export function works({ problem, survey }: Trial): boolean {
  return problem === null && survey.window !== undefined && wroteSomething(survey) && ends(survey);
}

/** True when the command has failed, or has found no end, and nothing but `size=` may be why. */
export function mayNeedSize({ status, survey }: Trial): boolean {
  if (status === 0 && ends(survey)) return false;
  return survey.readsBack.requests === 0 && survey.window !== undefined;
}

/** A disk image among the command's words. */
export interface Disk {
  readonly path: string;
  /** Bytes. */
  readonly size: bigint;
}

/** True when a stream that works ends before the only disk that it can be of. */
export function endsEarly(trial: Trial, disks: readonly Disk[]): boolean {
  const [disk] = disks;
  if (disk === undefined || disks.length > 1 || trial.size !== null) return false;
  return works(trial) && trial.survey.end < disk.size;
}

export function wroteSomething({ writes, zeroes }: DryRunFindings): boolean {
  return writes.requests + zeroes.requests > 0;
}

/** True when there is an end to what was written. */
export function ends({ end }: DryRunFindings): boolean {
  return end < NO_END;
}

/**
 * Draws the conclusion.
 *
 * @param trials at least one, in the order in which they were run
 * @param given the user's `size=`
 */
export function diagnose(
  trials: readonly Trial[],
  given: bigint | undefined,
  { sink, command }: Pick<RunLine, "sink" | "command">,
): ClientFindings {
  const good = trials.findLast(works);
  const last = trials.at(-1) as Trial;
  const told = good ?? last;
  const common = { readsBack: told.survey.readsBack.requests > 0, trials };
  if (good === undefined) {
    const none = { streams: false, line: null, size: null, window: 0 } as const;
    return { ...none, why: whyNot(last), impossible: isImpossible(last), ...common };
  }
  const size = good.size ?? undefined;
  const window = windowFor(good.survey);
  const line = runLine({ sink, size, window, command });
  const role = sizeRole(good, given);
  const yes = { streams: true, line, why: null, impossible: false } as const;
  return { ...yes, size: role, window, ...common };
}

/** True when every stream of that size breaks, or fails the command by what it cannot read back. */
function isImpossible({ status, survey }: Trial): boolean {
  if (survey.window === undefined) return !survey.scattered && !survey.undecided;
  return status !== 0 && survey.readsBack.requests > 0;
}

function sizeRole(good: Trial, given: bigint | undefined): SizeRole {
  if (given === undefined) return good.size === null ? "not needed" : "needed";
  return good.size === given ? "not tried without" : "minded";
}

function windowFor({ window, concurrent }: DryRunFindings): number {
  const { size, largest } = window ?? { size: 0, largest: 0 };
  // Several writes at a time may come in another order at any other time.
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
    const most = formatSize(LARGEST_WINDOW);
    return `the command scatters its writes over more places than are followed here: try window=${most}`;
  }
  const [first] = survey.places;
  const where = first === undefined ? "" : `, the first time with ${first.request}`;
  return (
    "the command does not write from start to end: it goes back " +
    `${survey.backward.requests} times${where}, to what no window= has room for`
  );
}

function item(name: string, state: Item["state"], text: string): Item {
  return { topic: "client", name, state, text };
}

/** The findings, one by one. @param disks the images among the command's words */
export function clientItems(findings: ClientFindings, disks: readonly Disk[]): Item[] {
  const { trials, streams, why } = findings;
  const trial = trials.findLast(works) ?? (trials.at(-1) as Trial);
  const { survey } = trial;
  const tries = item("tries", "note", trials.map((one) => tryText(one, why)).join("; "));
  const verdict = streams
    ? item("verdict", "ok", "it streams")
    : item("verdict", "failed", why as string);
  if (!wroteSomething(survey)) return [tries, verdict];
  const items = [
    tries,
    item("writes", "note", `${tally(survey.writes)}, zeroes ${tally(survey.zeroes)}`),
    item("left out", "note", `${tally(survey.gaps)} when a write behind it came`),
    orderItem(survey),
    ...backItems(survey),
    windowItem(findings, survey),
    ...(findings.size === null ? [] : [sizeItem(findings.size, trials[0] as Trial, trial)]),
    item("reads", survey.readsBack.requests > 0 ? "warning" : "ok", readsText(survey)),
  ];
  const [disk] = disks;
  if (disk !== undefined && endsEarly(trial, disks)) {
    const text = `the stream ends at byte ${survey.end}, but ${disk.path} is a disk of ${disk.size}`;
    items.push(item("end", "warning", `${text}: if all of it is copied, add size=${disk.size}`));
  }
  return [...items, verdict];
}

/** The first backward requests one by one, and how many more there are. */
function backItems({ places, backward }: DryRunFindings): Item[] {
  const items = places.map(({ request, head }) => {
    return item("goes back", "note", `${request} came when the data had reached byte ${head}`);
  });
  const more = backward.requests - places.length;
  return more === 0 ? items : [...items, item("goes back", "note", `and ${more} times more`)];
}

/** @param told what the verdict says already */
function tryText(trial: Trial, told: string | null): string {
  const how = trial.size === null ? "without size=" : `with size=${trial.size}`;
  if (works(trial)) return `${how} it works, up to byte ${trial.survey.end}`;
  const why = whyNot(trial);
  return why === told ? `${how} it does not work` : `${how} it does not work: ${why}`;
}

function tally({ requests, bytes }: DryRunFindings["writes"]): string {
  return `${requests} (${bytes} bytes)`;
}

function orderItem({ backward, farthest, concurrent }: DryRunFindings): Item {
  const several = concurrent ? ", several at a time" : ", one after the other";
  if (backward.requests === 0) return item("order", "ok", `from start to end${several}`);
  const text = `${tally(backward)} went back, up to ${farthest} bytes${several}`;
  return item("order", "warning", text);
}

function windowItem({ window, streams }: ClientFindings, survey: DryRunFindings): Item {
  const fit = survey.window;
  if (fit === undefined) return item("window=", "failed", noWindow(survey));
  if (fit.size === 0) {
    if (window === 0 || !streams) return item("window=", "ok", "not needed");
    const text = `not needed this time, but the order may be another one next time: ${formatSize(window)}`;
    return item("window=", "note", text);
  }
  const text = `needed: ${formatSize(fit.size)} has room, of which ${fit.needed} bytes had to be held at once`;
  return item("window=", "note", streams ? `${text}; ${formatSize(window)} to be safe` : text);
}

function noWindow({ scattered }: DryRunFindings): string {
  return scattered ? "not known: too many places" : "none has room for what it goes back to";
}

function sizeItem(role: SizeRole, first: Trial, { size: tried }: Trial): Item {
  const without = works(first)
    ? `the stream ends at byte ${first.survey.end}, before the disk does`
    : "the command does not work";
  const texts = {
    needed: `needed: without it ${without}`,
    minded: `it works only ${tried === null ? "without" : `with ${tried} in place of`} the size= that was given`,
    "not needed": "not needed",
    "not tried without": `given: ${tried}`,
  };
  return item("size=", role === "minded" ? "warning" : "note", texts[role]);
}

function readsText({ reads, readsHeld, readsBack }: DryRunFindings): string {
  if (reads.requests === 0) return "it reads nothing";
  if (readsBack.requests > 0) return `${tally(readsBack)} of what has gone by, which is lost`;
  if (readsHeld.requests === 0) return `${tally(reads)}, nothing of what it has written`;
  return `${tally(readsHeld)} of what it has written, out of the window`;
}
