/** `check pipe=FIFO` and `check read=FIFO`. */
import type { BigIntStats } from "node:fs";
import { refuseOwnPipeEnd } from "../endpoint/opening/own-end.ts";
import { type Direction, UnusableError } from "../endpoint/spec.ts";
import { messageOf } from "../errors.ts";
import { type PipeUser, pipeUsers } from "../process/pipe-users.ts";
import { accessItem } from "./access.ts";
import { pipeCapacity } from "./probes.ts";
import { endpointItem as item, type Item } from "./item.ts";

/** @param stats what stat(2) says of it */
export function checkFifo(path: string, stats: BigIntStats, direction: Direction): Item[] {
  const kind = item("kind", "ok", "a named pipe");
  const access = accessItem(path, direction, "; it was not opened: its other end would see that");
  if (access.state === "failed") return [kind, access];
  try {
    refuseOwnPipeEnd(stats, direction);
  } catch (error) {
    if (!(error instanceof UnusableError)) throw error;
    return [kind, access, item("other end", "failed", `${error.message}; ${error.hint}`)];
  }
  return [kind, access, ...otherEnd(stats, direction), pipeSizeItem()];
}

/** What a pipe gets when it is opened or made for a stream. */
export function pipeSizeItem(): Item {
  return item("pipe size", "ok", `${pipeCapacity()} bytes, which is what a new pipe gets here`);
}

function otherEnd(stats: BigIntStats, direction: Direction): Item[] {
  const name = "other end";
  const who = direction === "write" ? "reader" : "writer";
  const wanted = direction === "write" ? "reading" : "writing";
  const own = direction === "write" ? "writing" : "reading";
  let found: ReturnType<typeof pipeUsers>;
  try {
    found = pipeUsers(stats);
  } catch (error) {
    return [item(name, "warning", `/proc does not tell who has it open: ${messageOf(error)}`)];
  }
  const { users, unclear, hidden } = found;
  const there = users.filter(({ end }) => end === wanted || end === "both");
  const rivals = users.filter(({ end }) => end === own || end === "both");
  const items: Item[] = [];
  if (there.length > 0) {
    const several = there.length > 1;
    const share = direction === "write" ? "read, each gets" : "write, each gives";
    const advice = several ? `; if several of these ${share} a part of the stream` : "";
    const text = `a ${who} is there: ${there.map(userText).join(", ")}${advice}`;
    items.push(item(name, several ? "note" : "ok", text));
  } else {
    const others = hidden === 0 ? "" : `; ${hidden} processes of others could not be looked into`;
    const maybe = unclear.map(({ pid, name: program }) => `${program} (${pid})`).join(", ");
    const text =
      maybe === ""
        ? `no ${who} is seen: it is waited for`
        : `perhaps ${maybe}, which waits for a named pipe; else no ${who} is seen`;
    items.push(item(name, "note", `${text}${others}`));
  }
  if (rivals.length > 0) {
    const mixed = direction === "write" ? "write into it" : "read from it";
    const text = `${rivals.map(userText).join(", ")} could ${mixed}, too: end it first`;
    items.push(item("this end", "warning", text));
  }
  return items;
}

function userText({ pid, name, waiting }: PipeUser): string {
  return `${name} (${pid}${waiting ? ", which waits in open(2)" : ""})`;
}
