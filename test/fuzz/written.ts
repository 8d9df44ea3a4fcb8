/** Hostile clients of a stream that is written: the real engine beside a model of it. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../src/protocol/constants.ts";
import { tmpdir } from "node:os";
import { FifoSink } from "../../src/endpoint/sinks/pipe-sink.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import { SpoolFile } from "../../src/stream/spool-file.ts";
import { WriteStream } from "../../src/stream/write/write-stream.ts";
import { Oracle } from "../support/oracle.ts";
import { StreamFixture } from "../support/stream.ts";
import {
  describeScripts,
  leave,
  say,
  type Script,
  scripts,
  takeAnswers,
  turns,
} from "./clients.ts";
import type { Case } from "./negotiation.ts";
import type { Random } from "./random.ts";
import { runTogether } from "./together.ts";
import { EINVAL, type Found, hasUnwanted, LARGEST_PAYLOAD } from "./requests.ts";
import { require } from "./require.ts";

export function writtenCase(random: Random): Case {
  const size = random.pick([512, 5000, 65_536, 65_536, 300_000]);
  const window = random.pick([0, 0, 65_536, 200_000]);
  const together = random.chance(0.3);
  const clients = scripts("write", size, random, together);
  return {
    messages: clients.reduce((sum, { messages }) => sum + messages, 0),
    pieces: () => [
      `pipe= size=${size} window=${window}${together ? " together" : ""}`,
      ...describeScripts(clients),
    ],
    run: () => {
      using stream = new StreamFixture({ size, window });
      stream.beforeTurn = () => {
        stream.stalled = random.chance(0.1);
      };
      if (together) runTogether(stream, clients, size, random, window > 0 ? "held" : "emitted");
      else runInTurn(stream, clients, new Oracle(size, window), random);
    },
  };
}

/**
 * With a spool, in any order and all at once. What is written twice, or zeroed as well, may be either, so the
 * model knows what is there of the rest.
 */
export function spooledCase(random: Random): Case {
  const size = random.pick([512, 5000, 65_536, 300_000]);
  const window = random.pick([0, 65_536]);
  const clients = scripts(random.pick(["write", "any"]), size, random, true);
  return {
    messages: clients.reduce((sum, { messages }) => sum + messages, 0),
    pieces: () => [`pipe= size=${size} window=${window} spool=`, ...describeScripts(clients)],
    run: () => {
      const folder = tmpdir();
      using stream = new StreamFixture({
        make: ({ path, counters, post }) =>
          new WriteStream({
            sink: new FifoSink(path),
            spool: new SpoolFile({ ...makeUnnamed(folder, true), folder }, counters),
            ...{ size, window, counters, post, remembered: 0, flushes: true },
          }),
      });
      stream.beforeTurn = () => {
        stream.stalled = random.chance(0.1);
      };
      runTogether(stream, clients, size, random, "held");
    },
  };
}

/** One client after the other: every answer, and every byte, is known. */
function runInTurn(
  stream: StreamFixture,
  clients: readonly Script[],
  oracle: Oracle,
  random: Random,
): void {
  for (const [i, script] of clients.entries()) {
    const peer = say(stream, script, random);
    takeAnswers(stream, peer, script, (one) => expected(oracle, one, script));
    const cut = script.found.at(-1);
    if (cut === undefined || cut.whole || !admits(oracle, cut)) {
      leave(stream, peer, script, i + 1, random.chance(0.5));
      continue;
    }
    const limit = cutOff(oracle, cut);
    leave(stream, peer, script, i + 1, random.chance(0.5));
    turns(stream, 2);
    stream.settle();
    expectPrefix(stream.output, oracle.disk, limit);
    if (
      limit !== undefined &&
      oracle.window === 0 &&
      cut.offset + cut.payload.length < oracle.size
    ) {
      require(stream.broken === "CLIENT_CUT", `the stream is ${stream.broken ?? "whole"}`);
    }
    return;
  }
  finish(stream, oracle);
}

/** True when the rule takes on a WRITE of which a part is missing. */
function admits(oracle: Oracle, { type, flags, offset, length }: Found): boolean {
  if (type !== NBD_CMD_WRITE) return false;
  if (oracle.broken || (flags & ~NBD_CMD_FLAG_FUA) !== 0) return false;
  if (offset + length > Math.ceil(oracle.size / 512) * 512) return false;
  // Below the head it is refused, which breaks the stream.
  if (offset < oracle.head) oracle.write(offset, new Uint8Array(length));
  return !oracle.broken;
}

/** @returns up to where there may be output after a WRITE that was cut off */
function cutOff(oracle: Oracle, { offset, length, payload }: Found): number {
  const data = Buffer.alloc(length);
  payload.copy(data);
  oracle.write(offset, data);
  return oracle.head > offset ? offset + payload.length : oracle.head;
}

function expectPrefix(output: Buffer, disk: Uint8Array, limit: number): void {
  require(output.length <= limit, `${output.length} bytes came out, at most ${limit} may`);
  require(output.equals(disk.subarray(0, output.length)), "what came out is not what was written");
}

function finish(stream: StreamFixture, oracle: Oracle): void {
  const { broken, head } = oracle;
  require((stream.broken !== undefined) === broken, `the stream is ${stream.broken ?? "whole"}`);
  stream.command({ type: "finish", short: "allow" });
  stream.until(() => stream.engine.over && (stream.sawEnd || broken));
  stream.settle();
  const want = oracle.finish();
  expectPrefix(stream.output, want, want.length);
  const least = !broken ? want.length : oracle.window === 0 ? head : 0;
  require(stream.output.length >= least, `${stream.output.length} of ${least} bytes came out`);
}

/** What the client should get: an error, or the bytes that it reads. */
function expected(oracle: Oracle, one: Found, script: Script): number | Uint8Array {
  const { type, flags, offset, length, payload } = one;
  const only = (allowed: number) => (flags & ~allowed) === 0;
  if (hasUnwanted(one)) return EINVAL;
  const end = offset + length;
  const disk = Math.ceil(oracle.size / 512) * 512;
  switch (type) {
    case NBD_CMD_WRITE:
      if (!oracle.broken && !only(NBD_CMD_FLAG_FUA)) return EINVAL;
      return oracle.write(offset, payload);
    case NBD_CMD_WRITE_ZEROES:
      if (!oracle.broken && !only(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE)) return EINVAL;
      return oracle.zero(offset, length);
    case NBD_CMD_FLUSH:
      return only(NBD_CMD_FLAG_FUA) ? oracle.flush() : EINVAL;
    case NBD_CMD_READ: {
      const allowed = NBD_CMD_FLAG_FUA | (script.structured ? NBD_CMD_FLAG_DF : 0);
      if (!only(allowed) || length > LARGEST_PAYLOAD) return EINVAL;
      return oracle.read(offset, length);
    }
    case NBD_CMD_BLOCK_STATUS:
      if (!script.allocation || length === 0) return EINVAL;
      if (!only(NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_FUA)) return EINVAL;
      // The reply itself is looked at where it is taken.
      return end > disk ? EINVAL : 0;
    default:
      return EINVAL;
  }
}
