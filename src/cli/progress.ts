/** The options that say what is shown of a stream while it runs. */
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import type { EndpointSpec } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import { isInherited } from "../process/inherited.ts";
import { type Display, ProgressDisplay } from "../progress/display.ts";
import { parseSeconds } from "./options.ts";

const STDERR = 2;

/** Seconds between two lines. */
const INTERVAL = 1;

interface ProgressArgs {
  /** `on` for the option without a value, false for `--no-progress`. */
  readonly progress?: string | false | undefined;
  readonly "progress-fd"?: string | undefined;
  readonly "progress-interval"?: string | undefined;
  readonly quiet?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

/**
 * What the options, the terminal and the environment ask for.
 *
 * @param spec where the stream goes or comes from, which is not to be written to
 * @throws UserError ERR_USAGE
 */
export function createDisplay(args: ProgressArgs, spec: EndpointSpec): ProgressDisplay {
  const { progress, "progress-fd": fd, "progress-interval": interval } = args;
  if (args.quiet === true && args.verbose === true) {
    throw usageError("--quiet cannot be combined with --verbose: it is less or more");
  }
  if (args.quiet === true && typeof progress === "string") {
    throw usageError("--quiet cannot be combined with --progress: leave one of them out");
  }
  return new ProgressDisplay({
    display: display(args),
    interval: 1000 * (parseSeconds("progressInterval", interval) ?? INTERVAL),
    // no-color.org: any value that is not empty.
    colour: (process.env["NO_COLOR"] ?? "") === "",
    percentFd: fd === undefined ? undefined : percentFd(fd, spec),
  });
}

function display({ progress, quiet }: ProgressArgs): Display {
  if (progress !== undefined && progress !== false && progress !== "on" && progress !== "json") {
    throw usageError(
      `--progress=${progress} is not known: there are --progress and --progress=json`,
    );
  }
  if (progress === false || quiet === true) return "none";
  if (progress === "json") return "json";
  const term = process.env["TERM"] ?? "";
  if (isatty(STDERR) && term !== "" && term !== "dumb") return "bar";
  return progress === "on" ? "lines" : "none";
}

/** The descriptor for percentages, which the program has to have been started with. */
function percentFd(text: string, spec: EndpointSpec): number {
  const fd = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  const option = `--progress-fd=${text}`;
  if (Number.isNaN(fd)) throw usageError(`${option} is no descriptor: give a number, such as 3`);
  if (!isInherited(fd) || inode(fd) === undefined) {
    throw usageError(`${option} is not open: redirect it where the program is started: ${fd}>FILE`);
  }
  if (spec.kind === "descriptor" && (spec.fd === fd || inode(spec.fd) === inode(fd))) {
    throw usageError(`${option} is where the stream is: give another descriptor`);
  }
  return fd;
}

/** What no two pipes, sockets or files have alike; unlike devices, which take anybody's bytes. */
function inode(fd: number): string | undefined {
  try {
    const stats = fstatSync(fd);
    return stats.isCharacterDevice() ? `${fd}` : `${stats.dev}:${stats.ino}`;
  } catch {
    return undefined;
  }
}
