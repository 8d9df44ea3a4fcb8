/** What dry runs of a client come to: whether it streams, and by which line. */
import type { Survey } from "../stream/findings.ts";
import { type RunLine, runLine, sizeText } from "./command-line.ts";
import type { Trial } from "./dry-run.ts";
import type { Item } from "./report.ts";

/** The least window to advise, in bytes. It is a limit: memory is taken only when it is needed. */
const LEAST_WINDOW = 64 * 2 ** 20;
/** The order of a client's writes depends on timing: the next run may need more than this one. */
const MARGIN = 4;
/** As much as `window=` takes, in bytes. */
const MOST_WINDOW = 2 ** 34;
/** No disk ends there, in bytes: a client that gets this far takes the stream's lack of an end for one. */
const NO_END = 2 ** 60;

/** The names are those of the JSON form; sizes are in bytes. */
export interface ClientFindings {
  /** It writes what can be streamed, by {@link line}. */
  readonly streams: boolean;
  /** The line to use; null when none works. */
  readonly line: string | null;
  /** Why none works; null when one does. */
  readonly why: string | null;
  /** Whether `size=` has to be given, must not be this one, or makes no difference. */
  readonly size: "needed" | "minded" | "not needed" | "not tried without";
  /** The `window=` of the line; 0 is none. */
  readonly window: number;
  readonly readsBack: boolean;
  readonly trials: readonly Trial[];
}

/** True when a real stream, with the right window, would have been complete. */
export function works({ problem, survey }: Trial): boolean {
  return problem === null && survey.window !== undefined && wroteSomething(survey) && ends(survey);
}

/** True when `size=` might make the difference: nothing else is wrong. */
export function mayNeedSize({ survey }: Trial): boolean {
  return survey.readsBack.requests === 0 && survey.window !== undefined;
}

function wroteSomething({ writes, zeroes }: Survey): boolean {
  return writes.requests + zeroes.requests > 0;
}

function ends({ end }: Survey): boolean {
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
  const good = trials.find(works);
  const last = trials.at(-1) as Trial;
  const told = good ?? last;
  const common = { readsBack: told.survey.readsBack.requests > 0, trials };
  if (good === undefined) {
    const size = given === undefined ? "not needed" : "not tried without";
    return { streams: false, line: null, why: whyNot(last), size, window: 0, ...common };
  }
  const size = good.size ?? undefined;
  const window = windowFor(good.survey);
  const line = runLine({ sink, size, window, command });
  return { streams: true, line, why: null, size: sizeRole(good, trials), window, ...common };
}

function sizeRole(good: Trial, trials: readonly Trial[]): ClientFindings["size"] {
  if (trials.length === 1) return good.size === null ? "not needed" : "not tried without";
  return good.size === null ? "minded" : "needed";
}

function windowFor({ window, concurrent }: Survey): number {
  const size = window?.size ?? 0;
  // Several writes at a time may come in another order at any other time.
  if (size === 0 && !concurrent) return 0;
  return Math.min(MOST_WINDOW, Math.max(LEAST_WINDOW, size * MARGIN));
}

function whyNot({ problem, survey, size }: Trial): string {
  if (problem !== null) return problem;
  if (!wroteSomething(survey)) return "the command has written nothing: does it write to $nbd?";
  if (!ends(survey)) {
    return "the command writes up to the end of a disk that has none: give size=, the disk's size";
  }
  const [first] = survey.places;
  const where = first === undefined ? "" : `, the first time with ${first.request}`;
  const limit = size === null ? "" : ` of size=${size}`;
  return (
    `the command does not write from start to end${limit}: it goes back ` +
    `${survey.backward.requests} times${where}, further than any window= has room for`
  );
}

function item(name: string, state: Item["state"], text: string): Item {
  return { topic: "client", name, state, text };
}

/** The findings, one by one. @param disk an image among the command's words, if there is one */
export function clientItems(
  findings: ClientFindings,
  disk: { readonly path: string; readonly size: bigint } | undefined,
): Item[] {
  const { trials, streams, why } = findings;
  const trial = trials.find(works) ?? (trials.at(-1) as Trial);
  const { survey } = trial;
  const items = [
    item("tries", "note", trials.map(tryText).join("; ")),
    item("writes", "note", `${tally(survey.writes)}, zeroes ${tally(survey.zeroes)}`),
    item("left out", "note", `${tally(survey.gaps)} before a write came`),
    orderItem(survey),
    ...survey.places.map(({ request, head }) => {
      return item("", "note", `${request} came when the data had reached byte ${head}`);
    }),
    windowItem(findings, survey),
    sizeItem(findings, trial),
    item("reads", survey.readsBack.requests > 0 ? "warning" : "ok", readsText(survey)),
  ];
  if (streams && disk !== undefined && trial.size === null && survey.end < disk.size) {
    const text = `the stream ends at byte ${survey.end}, but ${disk.path} is a disk of ${disk.size}`;
    items.push(item("end", "warning", `${text}: if all of it is copied, add size=${disk.size}`));
  }
  items.push(item("verdict", streams ? "ok" : "failed", streams ? "it streams" : (why as string)));
  return items;
}

function tryText(trial: Trial): string {
  const how = trial.size === null ? "without size=" : `with size=${trial.size}`;
  return `${how}: ${works(trial) ? `well, up to byte ${trial.survey.end}` : whyNot(trial)}`;
}

function tally({ requests, bytes }: Survey["writes"]): string {
  return `${requests} (${bytes} bytes)`;
}

function orderItem({ backward, farthest, concurrent }: Survey): Item {
  const several = concurrent ? ", several at a time" : ", one after the other";
  if (backward.requests === 0) return item("order", "ok", `from start to end${several}`);
  const text = `${tally(backward)} went back, up to ${farthest} bytes${several}`;
  return item("order", "warning", text);
}

function windowItem({ window, streams }: ClientFindings, survey: Survey): Item {
  const fit = survey.window;
  if (fit === undefined) return item("window=", "failed", "none has room for that way back");
  if (fit.size === 0) {
    if (window === 0 || !streams) return item("window=", "ok", "not needed");
    const text = `not needed this time, but the order may be another one next time: ${sizeText(window)}`;
    return item("window=", "note", text);
  }
  const text = `needed: ${sizeText(fit.size)} had room, of which ${fit.needed} bytes were taken`;
  return item("window=", "note", streams ? `${text}; ${sizeText(window)} to be safe` : text);
}

function sizeItem({ size, streams }: ClientFindings, { size: tried }: Trial): Item {
  const texts = {
    needed: `needed: it fails without, and works with size=${tried}`,
    minded: "it works only without the size= that was given: see the tries",
    "not needed": streams ? "not needed" : "it makes no difference",
    "not tried without": `given: ${tried}`,
  };
  return item("size=", size === "minded" ? "warning" : "note", texts[size]);
}

function readsText({ reads, readsBack }: Survey): string {
  if (reads.requests === 0) return "it reads nothing";
  if (readsBack.requests === 0) return `${tally(reads)}, nothing of what it has written`;
  return `${tally(readsBack)} of what it has written, which a stream cannot give back`;
}
