/** One run of one case: the fault is injected, and what comes of it is seen. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Subprocess } from "bun";
import type { Peer } from "../../programs/peer.ts";
import { type Act, type Case, SIZE } from "../case.ts";
import { heard, type State } from "../ends/end.ts";
import { type Observation, pipefail } from "../judge.ts";
import { type Disk, digest } from "./disk.ts";
import { type OtherEnd, type Result, stored, told } from "./other-end.ts";
import { Place, sends, statusOf, until } from "./place.ts";
import { clientWords, type Started, wordsOf } from "./programs.ts";
import { confined, isConfined, openSink, type Sink } from "./sinks.ts";
import { openSource } from "./sources.ts";

/** How long a program may take to get to where the fault is to be. */
const SETUP_MS = 10_000;
/** And how long it may take to end after it. */
const BOUND_MS = 10_000;
/** How long its processes, and those that watch it, have for what is left to do after its end. */
const REST_MS = 3_000;

/** What all cases of a run of the table share. */
export interface Setup {
  readonly scratch: string;
  readonly disk: Disk;
  readonly peer: Peer | undefined;
}

export interface Seen extends Observation {
  /** The last line that the program said. */
  readonly said: string;
}

/** @throws Error when the case cannot be set up */
export async function trial(one: Case, { scratch, disk, peer }: Setup): Promise<Seen> {
  await using place = new Place(scratch);
  const write = one.plan.direction === "write";
  const sink = write ? await openSink(one, place, disk) : undefined;
  const end = sink ?? (await openSource(one, place, disk));
  const started = await wordsOf({ one, place, disk, end, peer });
  const words = sink === undefined ? started.words : confined(one, place, started.words);
  const program = place.start(["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", ...words], "said", {
    ...end.streams,
  });
  end.started?.();
  return await new Trial(one, { place, disk, end, sink, started, program, peer }).play();
}

interface Parts {
  readonly place: Place;
  readonly disk: Disk;
  readonly end: OtherEnd;
  readonly sink: Sink | undefined;
  readonly started: Started;
  readonly program: Subprocess;
  readonly peer: Peer | undefined;
}

class Trial {
  constructor(
    readonly one: Case,
    readonly parts: Parts,
  ) {}

  get #client(): State | undefined {
    return heard(this.parts.place.file("client.state"));
  }

  get #ended(): boolean {
    return statusOf(this.parts.program) !== undefined;
  }

  async play(): Promise<Seen> {
    const { place, program, end } = this.parts;
    await this.#startClient();
    const acted = await this.#act();
    writeFileSync(place.file("gate"), "");
    // The bound is for what comes after the fault.
    await until(() => this.#selfInflicted() || this.#ended, SETUP_MS);
    await until(() => this.#ended, BOUND_MS);
    const own = statusOf(program);
    // What is to be killed now would otherwise have the other end believe that it is over.
    const early = own === undefined ? this.#result() : undefined;
    await this.#rest(own === undefined ? 0 : REST_MS);
    const { whole, knows } = early ?? this.#result();
    return {
      injected: acted !== "in vain" && this.#selfInflicted(),
      ...{ whole, knows, status: own },
      ...(end.pipeline && this.#ofPipeline(own)),
      captive: this.parts.sink?.captive ?? this.one.plan.client.kind === "image",
      said: this.#said(),
    };
  }

  /** The client of `serve`. */
  async #startClient(): Promise<void> {
    const { place, disk, end, started, peer } = this.parts;
    const { socket } = started;
    if (socket === undefined) return;
    await until(() => existsSync(socket) || this.#ended, SETUP_MS);
    const { one } = this;
    place.start(clientWords({ one, place, disk, end, peer }, socket), "client");
  }

  /** Sends the signals of the plan. */
  async #act(): Promise<"done" | "in vain"> {
    const acts = this.one.plan.acts ?? [];
    for (const act of acts) {
      const state = () => (act.when === "client" ? this.#client : told(this.parts.end));
      const there = () => state()?.did !== undefined;
      await until(() => there() || this.#ended, SETUP_MS);
      if (!there()) return "in vain";
      if (act.after !== undefined) {
        if (await until(() => this.#ended, act.after)) break;
      } else if (this.#ended) {
        return "in vain";
      }
      if (!sends(this.#target(act), act.signal)) return "in vain";
    }
    return "done";
  }

  #target({ to }: Act): number {
    const { program, started } = this.parts;
    switch (to) {
      case "client":
        return this.#client?.pid ?? Number.NaN;
      case "program":
        return program.pid;
      case "server":
        return started.server?.() ?? program.pid;
      case "group":
        return -program.pid;
      case "source":
        return started.source?.pid ?? Number.NaN;
    }
  }

  /** True unless one of those who take part was to do something by himself, and has not. */
  #selfInflicted(): boolean {
    const { turn, last, stage, client, unreadable } = this.one.plan;
    const { place, end, sink } = this.parts;
    const state = told(end);
    const did = (deed: string | undefined, whose: State | undefined) =>
      deed === undefined || deed === "wait" || whose?.did === deed;
    return (
      did(turn?.deed, state) &&
      did(stage?.deed, heard(place.file("stage.state"))) &&
      (last === undefined || state?.end === "an ordinary end") &&
      (client.kind !== "raw" || did(client.turn?.deed, this.#client)) &&
      (unreadable === undefined || /input\/output error/i.test(this.#read("source"))) &&
      (sink === undefined || isConfined(this.one, place))
    );
  }

  /** Waits until all have ended but those that have stopped for ever. */
  async #rest(limit: number): Promise<void> {
    const { place, end, started } = this.parts;
    const stopped = () => {
      const state = told(end);
      return [state?.did === "stop" ? state.pid : undefined, started.source?.pid];
    };
    const others = () => place.processes().filter((pid) => !stopped().includes(pid));
    await until(() => others().length === 0, limit);
    // An NBD server that has been copied to has written all when it ends.
    if (started.image !== undefined) await until(() => place.processes().length === 0, limit);
  }

  #result(): Result {
    const { place, sink, started, disk } = this.parts;
    if (sink !== undefined) {
      const state = told(sink);
      return sink.result(state !== undefined && place.processes().includes(state.pid));
    }
    if (this.one.plan.client.kind === "image") return imported(started.image, disk);
    if (started.image !== undefined) return stored(started.image, disk);
    const state = this.#client;
    const whole = state?.bytes === SIZE && state.sha256 === disk.sha256;
    const alive = state !== undefined && place.processes().includes(state.pid);
    const left = state === undefined || state.did === "leave" || state.did === "finish";
    return { whole, knows: left ? "gone" : (state.end ?? (alive ? "waits" : "killed")) };
  }

  /** The statuses that a shell would have, if the reader or writer is its other command. */
  #ofPipeline(own: number | undefined): Pick<Observation, "status" | "alone"> {
    const { end } = this.parts;
    const other = end.process === undefined ? undefined : statusOf(end.process);
    const [first, last] = this.parts.sink === undefined ? [other, own] : [own, other];
    // One that has stopped for ever says nothing.
    if (other === undefined) return { status: own };
    return { status: pipefail(first, last), alone: last };
  }

  /** The last line of the program's standard error. */
  #said(): string {
    const lines = this.#read("said").trim().split("\n");
    return (lines.at(-1) ?? "").replaceAll(this.parts.place.folder, "…").slice(0, 300);
  }

  #read(name: string): string {
    return readFileSync(this.parts.place.file(name), "utf8");
  }
}

/** An image is there only if it is said to be whole. */
function imported(image: string | undefined, disk: Disk): Result {
  if (image === undefined || !existsSync(image)) return { whole: false, knows: "gone" };
  const raw = `${image}.raw`;
  const convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw];
  const whole = Bun.spawnSync(convert).success && digest(readFileSync(raw)) === disk.sha256;
  return { whole, knows: "an ordinary end" };
}

/** What has to be there for a case; the tools that are missing. */
export function missing({ program, endpoint, plan }: Case, peer: Peer | undefined): string[] {
  const root = process.getuid?.() === 0;
  const tools = ["qemu-img"];
  if (program === "nbdcopy") tools.push("nbdcopy", "qemu-nbd");
  if (endpoint === "block device") tools.push("losetup", "blockdev");
  if (plan.room !== undefined && plan.room > 0) tools.push("unshare");
  return [
    ...tools.filter((tool) => Bun.which(tool) === null),
    ...(program === "nbdkit" && peer === undefined ? ["nbdkit of Debian 11"] : []),
    ...(endpoint === "block device" && !root ? ["root"] : []),
  ];
}
