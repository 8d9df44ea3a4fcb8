/** Where streams come from. */
import type { Case } from "../case.ts";
import type { Via } from "../ends/open.ts";
import type { Disk } from "./disk.ts";
import { fifo, type Making, type OtherEnd, pipeline, tcpSocket, unixSocket } from "./other-end.ts";
import type { Place } from "./place.ts";
import { line, writer } from "./script.ts";

export async function openSource(one: Case, place: Place, disk: Disk): Promise<OtherEnd> {
  const { turn, last } = one.plan;
  const state = place.file("far-end.state");
  const words = (via: Via) =>
    writer({
      ...{ state, gate: place.file("gate"), via, disk: disk.raw },
      ...(turn && { turn }),
      ...(last !== undefined && { last }),
    });
  const making: Making = { place, plan: one.plan, process: words };
  return { ...(await made(one, making, words)), state };
}

async function made(
  { endpoint }: Case,
  making: Making,
  words: (via: Via) => string[],
): Promise<OtherEnd> {
  switch (endpoint) {
    case "read= FIFO":
      return await fifo(making);
    case "read= Unix socket":
      return await unixSocket(making);
    case "read= TCP socket":
      return await tcpSocket(making);
    case "stdin pipe":
      return pipeline(making, "stdin");
    case "read= exec:":
      return { target: `exec:${line(words({ fd: 1 }))}`, streams: {} };
    default:
      throw new Error(`${endpoint} is no source`);
  }
}
