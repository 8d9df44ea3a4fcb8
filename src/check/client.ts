/** `check -- COMMAND`: dry runs of a client, which tell whether it streams, and by which line. */
import { statSync } from "node:fs";
import { captiveWords, commandOf } from "../captive/command.ts";
import { imageSize } from "../captive/qemu-img.ts";
import { run } from "../captive/run.ts";
import { UserError } from "../errors.ts";
import { imageFormat } from "../library/contents.ts";
import { resolveServe } from "../library/options.ts";
import type { Words } from "../messages/notice.ts";
import { textOf } from "../messages/text.ts";
import { LEAST_WINDOW } from "../size.ts";
import { signalStatus } from "../process/signals.ts";
import { NOBODY } from "../server/observer.ts";
import type { StreamResult } from "../server/summary.ts";
import type { StreamContext } from "../server/settings.ts";
import type { StopSignal } from "../server/stop-signal.ts";
import {
  type AskedLine,
  clientItems,
  type Disk,
  diagnose,
  ends,
  endsEarly,
  fits,
  statusOf,
  works,
  wroteSomething,
} from "./advice.ts";
import type { ClientFindings, Item, Trial } from "./report.ts";
import { inspectFolder, type SpoolFolder, USUAL_FOLDER } from "./spool.ts";

/** For checks that run a stream. */
export interface CheckContext extends Omit<StreamContext, "observer"> {
  readonly workerUrl: URL;
}

/** @throws UserError when a signal has ended the check */
export function requireNoSignal({ caught }: StopSignal): void {
  if (caught === undefined) return;
  throw new UserError("ERR_TRUNCATED", `the check was ended by ${caught}`, signalStatus(caught));
}

/** What a dry run is tried with; a size of null is none. */
type Attempt = Pick<Trial, "mode" | "size">;

/**
 * Runs the command with the given `size=` or without one, and again where that does not work: with a spool or
 * as a stream that is held, if the client needs one, and with other sizes, if `size=` may be the reason.
 *
 * @throws UserError when the command cannot be started, or a signal has ended it
 */
export async function checkClient(
  command: readonly string[],
  { size: asked, sink, spool }: Omit<AskedLine, "command"> & { readonly size: bigint | undefined },
  context: CheckContext,
): Promise<{ findings: ClientFindings; items: readonly Item[]; status: number }> {
  const path = spool ?? USUAL_FOLDER;
  const trials: Trial[] = [];
  const disks = await disksAmong(command, context.stopSignal.stop);
  let folder: SpoolFolder | undefined;
  let next: Attempt | undefined = { mode: "window", size: asked ?? null };
  while (next !== undefined) {
    if (next.mode !== "window") folder ??= inspectFolder(path);
    if (folder?.problem !== undefined) break;
    const { size, mode } = next;
    const isHeld = mode === "spool" && folder?.onlyHeld !== undefined;
    const attempt: Attempt = isHeld ? { size, mode: "hold" } : next;
    trials.push(await tryOut(command, attempt, path, context));
    next = nextAttempt(trials, disks, command);
  }
  const findings = diagnose(trials, { command, sink, spool });
  if (findings.spool !== null) folder ??= inspectFolder(path);
  const items = clientItems(findings, disks, folder);
  return { findings, items, status: statusOf(findings) };
}

/** What else to try; undefined when there is nothing more to find out. */
function nextAttempt(
  trials: readonly Trial[],
  disks: readonly Disk[],
  command: readonly string[],
): Attempt | undefined {
  const [first] = trials as [Trial];
  const last = trials.at(-1) as Trial;
  const { mode, size, survey, spoolFailed } = last;
  if (spoolFailed) return undefined;
  if (!works(last)) {
    if (mode === "window" && survey.undecided) return { mode: "spool", size };
    if (mode !== "hold" && needsHold(last)) return { mode: "hold", size };
  }
  const isShort = last === first && copiesAll(command) && endsEarly(first, disks);
  if (!isShort && !mayNeedSize(last)) return undefined;
  const isHeld = mode === "hold";
  const tried = trials.filter((trial) => (trial.mode === "hold") === isHeld);
  const other = first.size === null ? disks[0]?.size : null;
  const another = [other, ownEnd(trials)].find(
    (one) => one !== undefined && !tried.some((trial) => trial.size === one),
  );
  return another === undefined ? undefined : { mode: isHeld ? "hold" : "window", size: another };
}

/**
 * Runs the command once, as a dry run. A real stream with a window would show nothing after the first late write.
 *
 * @param path the folder of a spool
 * @throws UserError when the command cannot be started, or a signal has ended it
 */
async function tryOut(
  command: readonly string[],
  { mode, size }: Attempt,
  path: string,
  { stopSignal, workerUrl, log, vocabulary }: CheckContext,
): Promise<Trial> {
  const hold = mode === "hold";
  const options = {
    ...(size !== null && { size }),
    ...(mode === "window" ? { window: LEAST_WINDOW } : { spool: path, hold }),
  };
  let format: string | null = null;
  const say = (message: Words) => log.verbose(message);
  const stream = {
    ...resolveServe({ ...options, pipe: "/dev/null", pad: false, idleTimeout: 0, workerUrl }),
    stopSignal,
    observer: NOBODY,
    log: { info: say, warn: say, verbose: say },
    vocabulary,
    doubts: (start: Uint8Array) => {
      format = imageFormat(start) ?? null;
      return undefined;
    },
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
  const spoolFailed = why?.code === "SPOOL_FAILED";
  return { mode, size, status, problem, format, spoolFailed, survey: findings };
}

/** True when the client does what only an ordinary disk can take, or may have failed because of that. */
function needsHold(trial: Trial): boolean {
  return !fits(trial) || trial.survey.readsBack.requests > 0;
}

/** True when the command has failed, or has found no end, and only `size=` may be the reason. */
export function mayNeedSize(trial: Trial): boolean {
  const { mode, status, survey } = trial;
  if (status === 0 && ends(survey)) return false;
  return mode === "hold" || !needsHold(trial);
}

/** The end of the command's writes, without `size=`: a format may want the disk to end there. */
function ownEnd(trials: readonly Trial[]): bigint | undefined {
  const { survey } = trials.findLast(({ size }) => size === null) ?? {};
  const isEnd = survey !== undefined && wroteSomething(survey) && ends(survey);
  return isEnd ? BigInt(survey.end) : undefined;
}

/** True for programs that copy the whole disk, but may leave out the zeroes at its end. */
function copiesAll(command: readonly string[]): boolean {
  return /^(\S*\/)?(qemu-img convert|nbdcopy) /.test(command.join(" "));
}

/** The disk images among the command's words, the largest first. */
async function disksAmong(command: readonly string[], stop: AbortSignal): Promise<Disk[]> {
  // In a line for the shell, only plain names are found.
  const words = command.length === 1 ? (command[0] as string).split(/\s+/) : command;
  const found: Disk[] = [];
  for (const word of words.slice(1)) {
    const path = word.replace(/^(['"])(.*)\1$/, "$2");
    try {
      if (!statSync(path).isFile()) continue;
      found.push({ path, size: await imageSize(path, undefined, stop) });
    } catch {
      // No image, no qemu-img, or no path at all, such as a script.
    }
  }
  return found.toSorted((a, b) => Number(b.size - a.size));
}
