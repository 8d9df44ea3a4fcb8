/** Where streams go to. */
import { closeSync, existsSync, mkdirSync, openSync, truncateSync, writeFileSync } from "node:fs";
import { command } from "../../run/scratch.ts";
import { type Case, SIZE } from "../case.ts";
import type { Via } from "../ends/open.ts";
import { heard } from "../ends/end.ts";
import type { Disk } from "./disk.ts";
import {
  endsBadly,
  fifo,
  type Making,
  type OtherEnd,
  pipeline,
  type Result,
  stored,
  taken,
  tcpSocket,
  unixSocket,
} from "./other-end.ts";
import type { Place } from "./place.ts";
import { line, reader } from "./script.ts";

export interface Sink extends OtherEnd {
  /** The program has started its reader itself. */
  readonly captive: boolean;
  /** @param alive the process is still there */
  result(alive: boolean): Result;
}

/** Loop devices that are in use, for an end that comes by a signal. */
const devices = new Set<string>();

export function detachAll(): void {
  for (const device of devices) Bun.spawnSync(["losetup", "--detach", device]);
}

/** @throws Error when it cannot be had */
export async function openSink(one: Case, place: Place, disk: Disk): Promise<Sink> {
  const { plan } = one;
  const talk = { state: place.file("far-end.state"), gate: place.file("gate") };
  const words = (via: Via) => {
    const { turn, last } = plan;
    return reader({ ...talk, via, ...(turn && { turn }), ...(last !== undefined && { last }) });
  };
  const making: Making = { place, plan, process: words };
  const read = (end: OtherEnd, captive = false): Sink => ({
    ...end,
    state: talk.state,
    captive,
    result: (alive) => {
      const result = taken(one, heard(talk.state), alive, disk);
      // What the program has started has to end well, too.
      return captive && endsBadly(plan) ? { ...result, whole: false } : result;
    },
  });
  const exec = (shell: string) => read({ target: `exec:${shell}`, streams: {} }, true);
  switch (one.endpoint) {
    case "FIFO":
      return read(await fifo(making));
    case "Unix socket":
      return read(await unixSocket(making));
    case "TCP socket":
      return read(await tcpSocket(making));
    case "stdout pipe":
      return read(pipeline(making, "stdout"));
    case "fd:N":
      return read(pipeline(making, "extra"));
    case "exec: command":
      return hasRoom(plan) ? exec(line(words({ fd: 0 }))) : fullCommand(place);
    case "exec: pipeline": {
      const first = plan.stage && {
        ...talk,
        state: place.file("stage.state"),
        via: { fd: 0 } as const,
        turn: plan.stage,
        pass: true as const,
      };
      return exec(`${first ? line(reader(first)) : "cat"} | ${line(words({ fd: 0 }))}`);
    }
    case "stdout file":
      return hasRoom(plan) ? file(place, disk) : full();
    case "block device":
      return await blockDevice(place, disk, plan.room ?? SIZE);
    case "character device":
      return { ...full(), target: plan.room === 0 ? "-" : "/dev/full" };
    default:
      throw new Error(`${one.endpoint} is no sink`);
  }
}

function file(place: Place, disk: Disk): Sink {
  const path = place.file("out");
  const stdout = openSync(path, "w");
  return {
    target: "-",
    streams: { stdout },
    captive: false,
    result: () => stored(path, disk),
    started: () => closeSync(stdout),
  };
}

async function blockDevice(place: Place, disk: Disk, room: number): Promise<Sink> {
  const path = place.file("device");
  writeFileSync(path, "");
  truncateSync(path, room);
  const device = (await command(["losetup", "--find", "--show", path])).trim();
  devices.add(device);
  place.defer(async () => {
    await command(["losetup", "--detach", device]);
    devices.delete(device);
  });
  return {
    target: device,
    streams: {},
    captive: false,
    result() {
      // What the device's own cache has goes to the file before anybody looks there.
      Bun.spawnSync(["blockdev", "--flushbufs", device]);
      return stored(path, disk);
    },
  };
}

/** The folder of a file system that has little room: see {@link confined}. */
export const FULL = "full";
/** It is there when that has been made. */
const CONFINED = "confined";

function full(): Sink {
  const result = { whole: false, knows: "nothing" } as const;
  return { target: "-", streams: {}, captive: false, result: () => result };
}

/** A command that says so when it has written all that it got. */
function fullCommand(place: Place): Sink {
  const done = place.file("done");
  return {
    target: `exec:cat > ${FULL}/out && : > ${line([done])}`,
    streams: {},
    captive: true,
    result: () => ({ whole: false, knows: existsSync(done) ? "an ordinary end" : "gone" }),
  };
}

/**
 * Has a program run where the folder `full` has only so much room: a file system that is gone with
 * the program, for nobody else sees it.
 */
export function confined({ endpoint, plan }: Case, place: Place, words: string[]): string[] {
  if (endpoint === "character device") {
    return plan.room === 0 ? ["sh", "-c", 'exec "$@" > /dev/full', "sh", ...words] : words;
  }
  if (!needsRoom({ endpoint, plan })) return words;
  mkdirSync(place.file(FULL));
  const unshare = process.getuid?.() === 0 ? ["unshare", "-m"] : ["unshare", "-Urm"];
  const redirect = endpoint === "stdout file" ? ` > ${FULL}/out` : "";
  const mount = `mount -t tmpfs -o size="$0" none ${FULL} && : > ${CONFINED} || exit 99`;
  return [...unshare, "sh", "-c", `${mount}; exec "$@"${redirect}`, String(plan.room), ...words];
}

/** True when a file system without room is there, if there is to be one. */
export function isConfined(one: Case, place: Place): boolean {
  return !needsRoom(one) || existsSync(place.file(CONFINED));
}

/** True unless the fault is that the sink has none. */
function hasRoom({ room, keeps }: Case["plan"]): boolean {
  return room === undefined || keeps !== undefined;
}

function needsRoom({ endpoint, plan }: Pick<Case, "endpoint" | "plan">): boolean {
  return plan.room !== undefined && endpoint !== "block device" && endpoint !== "character device";
}
