/** The options for the progress display. */
import { fstatSync } from "node:fs";
import type { EndpointSpec } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import { isInherited } from "../process/inherited.ts";
import { isTerminal, STDERR } from "../process/line-writer.ts";
import { type Display, ProgressDisplay } from "../progress/display.ts";
import type { ResolvedStream } from "../library/options.ts";
import type { CommonArgs } from "./options.ts";

/** The display that the options, the terminal and the environment ask for. @throws UserError ERR_USAGE */
export function createDisplay(
  args: CommonArgs,
  streams: readonly Pick<ResolvedStream, "spec" | "progressInterval">[],
): ProgressDisplay {
  const { progress, "progress-fd": fd } = args;
  if (args.quiet === true && args.verbose === true) {
    throw usageError("--quiet cannot be combined with --verbose: it is less or more");
  }
  if (args.quiet === true && typeof progress === "string") {
    throw usageError("--quiet cannot be combined with --progress: leave one of them out");
  }
  return new ProgressDisplay({
    display: display(args),
    interval: streams[0]?.progressInterval ?? 0,
    // no-color.org: any value that is not empty.
    colour: (process.env["NO_COLOR"] ?? "") === "",
    percentFd: fd === undefined ? undefined : percentFd(fd, streams),
  });
}

function display({ progress, quiet }: CommonArgs): Display {
  if (progress !== undefined && progress !== false && progress !== "on" && progress !== "json") {
    throw usageError(
      `--progress=${progress} is not known: there are --progress and --progress=json`,
    );
  }
  if (progress === false || quiet === true) return "none";
  if (progress === "json") return "json";
  const term = process.env["TERM"] ?? "";
  if (isTerminal(STDERR) && term !== "" && term !== "dumb") return "bar";
  return progress === "on" ? "lines" : "none";
}

/** The inherited descriptor for percentages, which must not be a stream's own. */
function percentFd(text: string, streams: readonly { readonly spec: EndpointSpec }[]): number {
  const fd = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  const option = `--progress-fd=${text}`;
  if (Number.isNaN(fd)) throw usageError(`${option} is no descriptor: give a number, such as 3`);
  if (!isInherited(fd) || inode(fd) === undefined) {
    throw usageError(`${option} is not open: redirect it where the program is started: ${fd}>FILE`);
  }
  const isTaken = ({ spec }: { readonly spec: EndpointSpec }) =>
    spec.kind === "descriptor" && (spec.fd === fd || inode(spec.fd) === inode(fd));
  if (streams.some(isTaken)) {
    throw usageError(`${option} is where the stream is: give another descriptor`);
  }
  return fd;
}

/** Identifies a pipe, socket or file. A character device may be shared, so its descriptor counts. */
function inode(fd: number): string | undefined {
  try {
    const stats = fstatSync(fd);
    return stats.isCharacterDevice() ? `${fd}` : `${stats.dev}:${stats.ino}`;
  } catch {
    return undefined;
  }
}
