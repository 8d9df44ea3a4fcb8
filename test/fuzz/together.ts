/** All clients of a stream at once: their order is not known, but where every byte comes from is. */
import { NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from "../../src/protocol/constants.ts";
import type { StreamFixture } from "../support/stream.ts";
import { connectAll, nextReply, type Script } from "./clients.ts";
import { expectOrigin } from "./origin.ts";
import type { Random } from "./random.ts";
import type { Found } from "./requests.ts";
import { require } from "./require.ts";

/** @param place where data is once it has got its reply: what is held may be overwritten, or lost with the stream */
export function runTogether(
  stream: StreamFixture,
  clients: readonly Script[],
  size: number,
  random: Random,
  place: "emitted" | "held" | "disk",
): void {
  const peers = connectAll(stream, clients, random);
  const acknowledged: Found[] = [];
  for (const [i, script] of clients.entries()) {
    if (script.rude) continue;
    const peer = peers[i] as (typeof peers)[number];
    const pending = script.found.filter((one) => one.whole);
    while (pending.length > 0) {
      const taken = nextReply(stream, peer, pending, script);
      if (taken === undefined) break;
      if (taken.request.type === NBD_CMD_WRITE && taken.error === 0)
        acknowledged.push(taken.request);
    }
    // One that ends in the middle of a WRITE may lose those before it, too: the stream is truncated.
    const mayLack = script.found.at(-1)?.whole === false ? script.found.length : 0;
    require(pending.length <= mayLack, () =>
      `${pending.length} requests of client ${i} got no answer`);
  }
  stream.until(() => stream.ends.length === clients.length);
  const { broken } = stream;
  const breaks = place === "disk" ? ["CLIENT_CUT"] : ["CLIENT_CUT", "BACKWARD_WRITE"];
  require(broken === undefined || breaks.includes(broken), `${broken}`);
  stream.command({ type: "finish", short: "allow" });
  stream.until(() => stream.engine.over && (stream.sawEnd || broken !== undefined));
  stream.settle();
  const { output } = stream;
  const found = clients.flatMap(({ found }) => found);
  expectOrigin(
    output,
    size,
    found.filter(({ type }) => type === NBD_CMD_WRITE),
  );
  if (place !== "emitted" && broken !== undefined) return;
  const isSafe = place === "emitted" ? () => true : once(found, size);
  for (const { offset, payload } of acknowledged) {
    const inside = payload.subarray(0, Math.max(0, size - offset));
    const at = inside.findIndex((byte, i) => output[offset + i] !== byte && isSafe(offset + i));
    require(at < 0, () => `byte ${offset + at} of a WRITE that was answered is not there`);
  }
}

/** Whether only one request would change a byte, so that nothing else can be there. */
function once(found: readonly Found[], size: number): (at: number) => boolean {
  const times = new Uint16Array(size);
  for (const { type, offset, length } of found) {
    if (![NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM].includes(type)) continue;
    for (let at = offset; at < Math.min(size, offset + length); at++)
      times[at] = 1 + (times[at] ?? 0);
  }
  return (at) => times[at] === 1;
}
