/** `check -- COMMAND`: as many dry runs as are needed to tell whether it streams, and how. */
import { statSync } from "node:fs";
import { imageSize } from "../captive/qemu-img.ts";
import { EXIT } from "../errors.ts";
import {
  clientItems,
  type ClientFindings,
  diagnose,
  type Disk,
  ends,
  endsEarly,
  mayNeedSize,
  works,
  wroteSomething,
} from "./diagnosis.ts";
import type { CheckContext } from "./context.ts";
import { type Trial, tryOut } from "./dry-run.ts";
import type { Item } from "./item.ts";

export interface ClientCheck {
  readonly findings: ClientFindings;
  readonly items: readonly Item[];
  /** The exit status. */
  readonly status: number;
}

/**
 * As much of what is ahead of its turn is kept for a client to read back, in bytes: if a larger window
 * might have had what it wanted, the next of these is tried. The last is the largest that there is.
 */
const WINDOWS = [2 ** 26, 2 ** 30, 2 ** 34];

/**
 * Runs the command without `size=`, unless one is given; where that does not work, and `size=` might
 * be why, with others.
 *
 * @param sink what stands behind `pipe=` in the line to use
 * @returns undefined when a signal has put an end to it
 * @throws UserError when the command cannot be started
 */
export async function checkClient(
  command: readonly string[],
  size: bigint | undefined,
  sink: string,
  context: CheckContext,
): Promise<ClientCheck | undefined> {
  const first = await tryWindows(command, size, context);
  if (first === undefined) return undefined;
  const trials: Trial[] = [first];
  const disks = await disksAmong(command, context.stopSignal.stop);
  const short = copiesAll(command) && endsEarly(first, disks);
  const unsettled = (last: Trial) => !works(last) && mayNeedSize(last);
  for (const other of [size === undefined ? () => largest(disks) : () => null, ownEnd]) {
    if (!(short && trials.length === 1) && !unsettled(trials.at(-1) as Trial)) break;
    const next = other(trials);
    if (next === undefined || trials.some((trial) => trial.size === next)) continue;
    const trial = await tryWindows(command, next ?? undefined, context);
    if (trial === undefined) return undefined;
    trials.push(trial);
  }
  const findings = diagnose(trials, size, { sink, command });
  return { findings, items: clientItems(findings, disks), status: statusOf(findings) };
}

/** A dry run with as large a window as makes a difference. As {@link tryOut}. */
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

/** Where the command itself has come to an end: a format may want its disk to end there, too. */
function ownEnd(trials: readonly Trial[]): bigint | undefined {
  const free = trials.find(({ size }) => size === null);
  return free && wroteSomething(free.survey) && ends(free.survey)
    ? BigInt(free.survey.end)
    : undefined;
}

/** True for programs that copy a disk whole: the zeroes at its end, too, which they may leave out. */
function copiesAll(command: readonly string[]): boolean {
  return /^(\S*\/)?(qemu-img convert|nbdcopy) /.test(command.join(" "));
}

/** What is copied, in all likelihood: the others may be scripts and the like. */
function largest(disks: readonly Disk[]): bigint | undefined {
  return disks.map(({ size }) => size).reduce((a, b) => (a > b ? a : b), 0n) || undefined;
}

/** That of a real stream: the command's own where it has failed by itself. */
function statusOf({ streams, readsBack, trials }: ClientFindings): number {
  if (streams) return EXIT.COMPLETE;
  const { status } = trials.at(-1) as Trial;
  return status !== 0 && !readsBack ? status : EXIT.TRUNCATED;
}

/** The disk images among the command's words. */
async function disksAmong(command: readonly string[], stop: AbortSignal): Promise<Disk[]> {
  // Of a line for the shell it is enough to find the words that are no more than a name.
  const words = command.length === 1 ? (command[0] as string).split(/\s+/) : command;
  const found: Disk[] = [];
  for (const word of words.slice(1)) {
    const path = word.replace(/^(['"])(.*)\1$/, "$2");
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) continue;
    try {
      found.push({ path, size: await imageSize(path, undefined, stop) });
    } catch {
      // No image, or no qemu-img: the user knows the size.
    }
  }
  return found;
}
