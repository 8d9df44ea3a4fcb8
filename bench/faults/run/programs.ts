/** How the programs are started. */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Peer } from "../../programs/peer.ts";
import { MAIN } from "../../programs/servers.ts";
import { type Case, SIZE } from "../case.ts";
import type { Disk } from "./disk.ts";
import type { OtherEnd } from "./other-end.ts";
import { type Place, until } from "./place.ts";
import { client, line } from "./script.ts";
import { FULL } from "./sinks.ts";

export interface Started {
  readonly words: string[];
  /** Where it serves, if it does. */
  readonly socket?: string;
  /** Process id of its server, if that is not the program. */
  readonly server?: () => number;
  /** The NBD server that it copies from or to. */
  readonly source?: Subprocess;
  /** What it makes of a stream that it reads. */
  readonly image?: string;
}

export interface Setting {
  readonly one: Case;
  readonly place: Place;
  readonly disk: Disk;
  readonly end: OtherEnd;
  readonly peer: Peer | undefined;
}

const LIMIT_MS = 10_000;
const COPY = ["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw"];
const UNORDERED = ["-W", "-m", "16"];

export async function wordsOf(setting: Setting): Promise<Started> {
  switch (setting.one.program) {
    case "ours":
      return ours(setting);
    case "nbdkit":
      return nbdkit(setting);
    case "nbdcopy":
      return await nbdcopy(setting);
    case "qemu-img":
      return { words: dd(setting.disk) };
    case "file":
      return { words: byFile(setting) };
  }
}

/** Our own client, for a server on this socket or on that of its environment. */
export function clientWords({ one, place, disk }: Setting, socket?: string): string[] {
  const { client: who, direction } = one.plan;
  if (who.kind !== "raw") throw new Error("that is another client");
  return client({
    ...{ state: place.file("client.state"), gate: place.file("gate") },
    ...{ direction, disk: disk.raw, status: who.status ?? 0 },
    ...(who.turn && { turn: who.turn }),
    ...(socket !== undefined && { socket }),
  });
}

function ours(setting: Setting): Started {
  const { one, place, disk, end } = setting;
  const { client: who, direction } = one.plan;
  const stream = `${direction === "write" ? "pipe" : "read"}=${end.target}`;
  const start = (verb: string) => [
    ...[process.execPath, MAIN, verb, stream, `size=${SIZE}`, "--quiet", ...kept(one)],
  ];
  const run = (...rest: string[]) => ({ words: [...start("run"), ...rest] });
  switch (who.kind) {
    case "copy":
      // Without an order of its own, it needs what is kept.
      return run("--", ...COPY, ...(one.plan.keeps ? UNORDERED : []), disk.qcow2, "$nbd");
    case "image": {
      const image = place.file("made.qcow2");
      return { ...run(image), image };
    }
    case "raw": {
      if (who.by === "run") {
        const words = clientWords(setting);
        return who.hidden ? run("--", careless(line(words))) : run("--", ...words);
      }
      const socket = place.file("nbd.sock");
      return { words: [...start("serve"), "--unix", socket], socket };
    }
  }
}

/** Options of ours: what it keeps is in its folder, or where there is little room, if that is the fault. */
function kept({ plan: { keeps, room } }: Case): string[] {
  if (keeps === undefined) return [];
  const folder = `spool=${room === undefined ? "." : FULL}`;
  return keeps === "--hold" ? [folder, keeps] : [folder, "window=0"];
}

/** A script that does not look at how its client has ended. */
const careless = (command: string) => `${command} & wait $!; exit 0`;

function nbdkit(setting: Setting): Started {
  const { one, place, disk, end, peer } = setting;
  if (peer === undefined) throw new Error("there is no nbdkit");
  const { client: who, direction } = one.plan;
  const [socket, pid] = [place.file("nbd.sock"), place.file("pid")];
  const captive = () => {
    if (who.kind === "copy") return `${line([...COPY, disk.qcow2])} "$uri"`;
    const command = line(clientWords(setting, socket));
    return who.kind === "raw" && who.hidden ? careless(command) : `exec ${command}`;
  };
  const stream = `${direction === "write" ? "pipe" : "read"}=${end.target}`;
  return {
    words: [
      ...[peer.nbdkit, "-f", "-U", socket, "-P", pid, peer.plugin],
      ...[stream, `size=${SIZE}`, "--run", captive()],
    ],
    server: () => Number(readFileSync(pid, "utf8")),
  };
}

async function nbdcopy({ one, place, disk }: Setting): Promise<Started> {
  const { direction, unreadable } = one.plan;
  const name = "source.sock";
  const uri = `nbd+unix:///?socket=${place.file(name)}`;
  const target = place.file("target.raw");
  const start = async (...words: string[]) => {
    const source = place.start(["qemu-nbd", "-k", place.file(name), ...words], "source");
    const there = () => [...new Bun.Glob(name).scanSync({ cwd: place.folder, onlyFiles: false })];
    if (!(await until(() => there().length > 0, LIMIT_MS))) throw new Error("no qemu-nbd");
    return source;
  };
  if (direction === "read") {
    writeFileSync(target, "");
    truncateSync(target, SIZE);
    const source = await start("-f", "raw", target);
    return { words: ["nbdcopy", "-", uri], source, image: target };
  }
  const source = await (unreadable === undefined
    ? start("-r", "-f", "qcow2", disk.qcow2)
    : start("-r", "--image-opts", failing(disk, unreadable)));
  return { words: ["nbdcopy", uri, "-"], source };
}

/** qemu's driver for disks that fail (docs/devel/testing/blkdebug.rst). */
function failing({ raw }: Disk, at: number): string {
  const error = `event=read_aio,errno=5,sector=${Math.floor(at / 512)}`;
  return [
    ...["driver=raw", "file.driver=blkdebug"],
    ...["file.image.driver=file", `file.image.filename=${raw}`],
    ...error.split(",").map((word) => `file.inject-error.0.${word}`),
  ].join(",");
}

function dd({ qcow2 }: Disk): string[] {
  return ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=64k", `if=${qcow2}`, "of=/dev/stdout"];
}

/** The file is where there is little room, if that is the fault. */
function byFile({ one, place, disk }: Setting): string[] {
  const file = one.plan.room === undefined ? place.file("whole.raw") : join(FULL, "whole.raw");
  const script = 'qemu-img convert -f qcow2 -O raw "$1" "$2" && cat "$2"';
  return ["sh", "-c", script, "sh", disk.qcow2, file];
}
