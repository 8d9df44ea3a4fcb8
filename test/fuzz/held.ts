/** Hostile clients of a stream that is held back: the real engine beside a byte array. */
import {
  NBD_CMD_FLAG_FUA,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../src/protocol/constants.ts";
import { DiskModel } from "../support/disk-model.ts";
import { HoldFixture } from "../support/hold.ts";
import { describeScripts, leave, say, type Script, scripts, takeAnswers } from "./clients.ts";
import type { Case } from "./negotiation.ts";
import type { Random } from "./random.ts";
import { EINVAL, type Found, hasUnwanted } from "./requests.ts";
import { require } from "./require.ts";
import { runTogether } from "./together.ts";

export function heldCase(random: Random): Case {
  const size = random.pick([512, 5000, 65_536, 300_000]);
  const abilities = { punches: random.chance(0.8), zeroesInPlace: random.chance(0.8) };
  const together = random.chance(0.3);
  const clients = scripts(random.pick(["write", "any", "any"]), size, random, together);
  return {
    messages: clients.reduce((sum, { messages }) => sum + messages, 0),
    pieces: () => [
      `hold size=${size} ${JSON.stringify(abilities)}${together ? " together" : ""}`,
      ...describeScripts(clients),
    ],
    run: () => {
      using stream = new HoldFixture({ size, abilities });
      stream.beforeTurn = () => {
        stream.stalled = random.chance(0.1);
      };
      const model = new DiskModel(size, abilities.punches, abilities.zeroesInPlace);
      if (together) runTogether(stream, clients, size, random, "disk");
      else runInTurn(stream, clients, model, random);
    },
  };
}

/** One client after the other: every answer, and every byte, is known. */
function runInTurn(
  stream: HoldFixture,
  clients: readonly Script[],
  model: DiskModel,
  random: Random,
): void {
  for (const [i, script] of clients.entries()) {
    const peer = say(stream, script, random);
    takeAnswers(stream, peer, script, (one) => expected(model, one, script));
    const cut = script.found.at(-1);
    leave(stream, peer, script, i + 1, random.chance(0.5));
    if (cut === undefined || cut.whole || !admits(model, cut)) continue;
    stream.settle();
    // What has come of it may be behind the end, and is refused at once.
    const isRefused = cut.payload
      .subarray(Math.max(0, model.size - cut.offset))
      .some((byte) => byte !== 0);
    const how = isRefused ? stream.event("refused")?.type : stream.broken;
    require(how === (isRefused ? "refused" : "CLIENT_CUT"), `the stream is ${how ?? "whole"}`);
    require(stream.output.length === 0, "a part of a truncated stream came out");
    return;
  }
  require(stream.broken === undefined, `the stream is ${stream.broken}`);
  const isRefused = stream.event("refused") !== undefined;
  // A WRITE that was refused may not be there in whole.
  const isKnown = clients.every(({ found }) => found.at(-1)?.whole !== false);
  require(!isKnown || isRefused === model.refused, `refused: ${isRefused}`);
  stream.command({ type: "finish", short: "pad" });
  stream.until(() => stream.sawEnd);
  require(stream.output.equals(model.output(true)), "what came out is not what was written");
}

/** True for a WRITE of which a part is missing, if all of it would have been taken on. */
function admits(model: DiskModel, { type, flags, offset, length }: Found): boolean {
  if (type !== NBD_CMD_WRITE || (flags & ~NBD_CMD_FLAG_FUA) !== 0) return false;
  return offset + length <= model.disk.length;
}

/** What the client should get: an error, or the bytes that it reads. */
function expected(model: DiskModel, one: Found, script: Script): number | Uint8Array {
  if (!hasUnwanted(one)) return model.ask(one, one.payload, script);
  model.refused ||= one.type === NBD_CMD_WRITE_ZEROES;
  return EINVAL;
}
