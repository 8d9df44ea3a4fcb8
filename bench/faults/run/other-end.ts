/** The other end of a program's stream. */
import { readFileSync } from "node:fs";
import type { Subprocess } from "bun";
import { close } from "../../../ffi/fd.ts";
import { pipe } from "../../../ffi/pipe.ts";
import { command } from "../../run/scratch.ts";
import { type Case, type Plan, SIZE } from "../case.ts";
import { heard, type State } from "../ends/end.ts";
import type { Via } from "../ends/open.ts";
import type { Knowledge } from "../judge.ts";
import { type Disk, digest } from "./disk.ts";
import { type Place, type Streams, until } from "./place.ts";

export interface OtherEnd {
  /** What `pipe=` or `read=` is. */
  readonly target: string;
  readonly streams: Streams;
  /** The file in which its process tells how far it is. */
  readonly state?: string;
  /** Its process, if it is not the program that starts it. */
  readonly process?: Subprocess;
  /** That process and the program are a pipeline of a shell. */
  readonly pipeline?: true;
  /** The program has what it needs of us. */
  readonly started?: () => void;
}

/** What has become of what went into a sink. */
export interface Result {
  readonly whole: boolean;
  readonly knows: Knowledge;
}

/** What a sink or a source is made of. */
export interface Making {
  readonly place: Place;
  readonly plan: Plan;
  /** The command line of its process. */
  process(via: Via): string[];
}

const LIMIT_MS = 10_000;

export async function fifo({ place, process }: Making): Promise<OtherEnd> {
  const path = place.file("stream");
  await command(["mkfifo", "-m", "600", path]);
  return { target: path, streams: {}, process: place.start(process({ fifo: path }), "far-end") };
}

export async function unixSocket({ place, process }: Making): Promise<OtherEnd> {
  const path = place.file("stream");
  const listener = place.start(process({ unix: path }), "far-end");
  await listening(place, "stream");
  return { target: path, streams: {}, process: listener };
}

export async function tcpSocket({ place, process }: Making): Promise<OtherEnd> {
  const listener = place.start(process({ tcp: place.file("port") }), "far-end");
  await listening(place, "port");
  const port = readFileSync(place.file("port"), "utf8");
  return { target: `tcp:127.0.0.1:${port}`, streams: {}, process: listener };
}

async function listening(place: Place, name: string): Promise<void> {
  const there = () => new Bun.Glob(name).scanSync({ cwd: place.folder, onlyFiles: false });
  if (!(await until(() => [...there()].length > 0, LIMIT_MS))) throw new Error("nobody listens");
}

/** @param position of the program's descriptor */
export function pipeline(
  { place, process }: Making,
  position: "stdin" | "stdout" | "extra",
): OtherEnd {
  const { read, write } = pipe();
  const [its, ours] = position === "stdin" ? [read, write] : [write, read];
  const streams = position === "stdin" ? { stdout: ours } : { stdin: ours };
  const child = place.start(process({ fd: position === "stdin" ? 1 : 0 }), "far-end", streams);
  close(ours);
  return {
    target: position === "extra" ? "fd:3" : "-",
    streams: { [position]: its },
    process: child,
    ...(position === "extra" ? {} : { pipeline: true }),
    started: () => close(its),
  };
}

/** What a reader has taken, and what it could know. */
export function taken(
  { plan }: Case,
  state: State | undefined,
  alive: boolean,
  disk: Disk,
): Result {
  const whole = state?.bytes === SIZE && state.sha256 === disk.sha256;
  return { whole, knows: endsBadly(plan) ? "gone" : knowledge(state, alive) };
}

/** True when a reader is to fail, or to be killed, at some time. */
export function endsBadly({ turn, last = 0 }: Plan): boolean {
  return turn?.deed === "kill" || (turn?.status ?? 0) !== 0 || last !== 0;
}

function knowledge(state: State | undefined, alive: boolean): Knowledge {
  if (state === undefined || state.did === "leave" || state.did === "kill") return "gone";
  return state.end ?? (alive ? "waits" : "killed");
}

/** What is in a file or, to its length, in a device. */
export function stored(path: string, disk: Disk): Result {
  const content = readFileSync(path);
  return { whole: digest(content) === disk.sha256, knows: "nothing" };
}

/** What the process has told that knows the stream's end. */
export function told({ state }: Pick<OtherEnd, "state">): State | undefined {
  return state === undefined ? undefined : heard(state);
}
