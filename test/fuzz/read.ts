/** Hostile clients of a stream that is read: the real engine beside a model of it. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../src/protocol/constants.ts";
import { pseudoRandom } from "../support/images.ts";
import { ReadModel } from "../support/read-model.ts";
import { ReadFixture } from "../support/read-stream.ts";
import {
  connectAll,
  describeScripts,
  leave,
  nextReply,
  say,
  type Script,
  scripts,
} from "./clients.ts";
import type { Case } from "./negotiation.ts";
import type { Random } from "./random.ts";
import { describeRequest, EINVAL, type Found, hasUnwanted, LARGEST_PAYLOAD } from "./requests.ts";
import { require } from "./require.ts";

const EPERM = 1;
const MIB = 1 << 20;
const SOURCE = pseudoRandom(2 * MIB, 99);

export function readCase(random: Random): Case {
  const size = random.pick([700, 5000, 20_000, 65_536, 65_536, 65_536, 300_000, MIB + 70_000]);
  const surplus = random.chance(0.7) ? 0 : random.between(-size, 1000);
  const window = random.pick([0, 0, 50_000]);
  const [pad, exact] = [random.chance(0.3), random.chance(0.2)];
  const together = random.chance(0.3);
  const clients = scripts("read", size, random, together);
  const given = { size, window, pad, exact };
  return {
    messages: clients.reduce((sum, { messages }) => sum + messages, 0),
    pieces: () => [
      `read= ${JSON.stringify(given)} surplus=${surplus}${together ? " together" : ""}`,
      ...describeScripts(clients),
    ],
    run: () => {
      const source = SOURCE.subarray(0, size + surplus);
      using stream = ReadFixture.of(source, given);
      stream.beforeTurn = () => {
        stream.stalled = random.chance(0.1);
        stream.piece = random.pick([MIB, 65_536, 30_000]);
      };
      const model = new ReadModel(source, { ...given, process: "none" });
      if (together) runTogether(stream, clients, model, random);
      else runInTurn(stream, clients, model, random);
    },
  };
}

/** One client after the other: every answer is known. */
function runInTurn(
  stream: ReadFixture,
  clients: readonly Script[],
  model: ReadModel,
  random: Random,
): void {
  for (const [i, script] of clients.entries()) {
    const peer = say(stream, script, random);
    const pending = script.found.filter((one) => one.whole);
    while (pending.length > 0) {
      const request = pending[0] as Found;
      const want = expected(model, request, script);
      const error = typeof want === "number" ? want : 0;
      const taken = nextReply(stream, peer, [request], script);
      require(taken !== undefined, () => `${pending.length} requests got no answer`);
      require(taken.error === error, () =>
        `${describeRequest(request)} got ${taken.error}, not ${error}`);
      // Before an error, chunks may have come: they have to be right all the same.
      const { data } = taken;
      const disk = model.disk.subarray(request.offset, request.offset + data.length);
      require(data.equals(typeof want === "number" ? disk : want), () =>
        `${describeRequest(request)}: data`);
      pending.shift();
    }
    leave(stream, peer, script, i + 1, random.chance(0.5));
  }
  stream.beforeTurn = () => {};
  stream.stalled = false;
  const partly = random.chance(0.5);
  stream.finish(partly ? "allow" : "fail");
  const verdict = model.verdict(partly);
  require(stream.broken === verdict, `the stream is ${stream.broken}, not ${verdict}`);
}

/** What the client should get: an error, or the bytes that it reads. */
function expected(model: ReadModel, one: Found, script: Script): number | Buffer {
  const { type, flags, offset, length } = one;
  if (hasUnwanted(one)) return EINVAL;
  const only = (allowed: number) => (flags & ~allowed) === 0;
  switch (type) {
    case NBD_CMD_READ: {
      const allowed = NBD_CMD_FLAG_FUA | (script.structured ? NBD_CMD_FLAG_DF : 0);
      if (!only(allowed) || length > LARGEST_PAYLOAD) return EINVAL;
      return model.read(offset, length);
    }
    case NBD_CMD_WRITE:
    case NBD_CMD_WRITE_ZEROES:
    case NBD_CMD_TRIM:
      return EPERM;
    case NBD_CMD_BLOCK_STATUS:
      if (!script.allocation || length === 0 || !only(NBD_CMD_FLAG_REQ_ONE)) return EINVAL;
      return offset + length > model.disk.length ? EINVAL : 0;
    default:
      return EINVAL;
  }
}

/** All clients at once: the order of errors is not known, but the data is. */
function runTogether(
  stream: ReadFixture,
  clients: readonly Script[],
  model: ReadModel,
  random: Random,
): void {
  const peers = connectAll(stream, clients, random);
  for (const [i, script] of clients.entries()) {
    if (script.rude) continue;
    const peer = peers[i] as (typeof peers)[number];
    const pending = script.found.filter((one) => one.whole);
    while (pending.length > 0) {
      const taken = nextReply(stream, peer, pending, script);
      require(taken !== undefined, () => `${pending.length} requests of client ${i} got no answer`);
      const { offset } = taken.request;
      const disk = model.disk.subarray(offset, offset + taken.data.length);
      require(taken.data.equals(disk), () => `${describeRequest(taken.request)}: data`);
    }
  }
  stream.until(() => stream.ends.length === clients.length);
  stream.beforeTurn = () => {};
  stream.stalled = false;
  stream.finish("allow");
}
