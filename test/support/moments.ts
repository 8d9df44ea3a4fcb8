/** Moments at which a fault may come to a stream whose sink is a command that commits at the end of its input. */
import { expect } from "bun:test";
import { close } from "../../ffi/fd.ts";
import { growPipe, pipe } from "../../ffi/pipe.ts";
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { type RawClient } from "./nbd-client.ts";
import { encodeRequest, encodeWrite } from "./wire.ts";
import { DATA, GATE, type SinkChoice, type Trial } from "./trial.ts";

const KiB = 1024;

/** Bytes that the program's pipes hold: 1 MiB, or two pages for a user who has many of them (pipe(7)). */
function roomOfPipes(): number {
  const ends = pipe();
  const room = growPipe(ends.write);
  for (const fd of [ends.read, ends.write]) close(fd);
  return room;
}

/** A command and a pipeline that do this first, and commit at the end of their input. */
const sinks = (first: string): SinkChoice[] => [
  { exec: `${first}; echo committed > done` },
  { exec: `cat | { ${first}; echo committed > done; }` },
];
const READING = sinks("cat > part");
const STALLED = sinks(`${GATE}; cat > part`);
/** There is no telling how much of a gap comes. */
const COUNTING = sinks("wc -c > /dev/null");

/** A moment of a stream, and how a test gets there. */
export interface Moment {
  readonly moment: string;
  /** Bytes that are certain to be out. */
  readonly bytes?: number;
  /** A command and a pipeline. */
  readonly sinks: readonly SinkChoice[];
  reach(client: RawClient, trial: Trial): Promise<void>;
}

export const MOMENTS: readonly Moment[] = [
  {
    moment: "before the first request",
    bytes: 0,
    sinks: READING,
    reach: (_, trial) => trial.settled(),
  },
  {
    moment: "between two requests",
    bytes: 64 * KiB,
    sinks: READING,
    async reach(client) {
      expect(await client.write(0, DATA.subarray(0, 64 * KiB))).toBe(0);
    },
  },
  {
    moment: "in the middle of a header",
    bytes: 64 * KiB,
    sinks: READING,
    async reach(client, trial) {
      const next = encodeRequest(NBD_CMD_WRITE, 64 * KiB, 64 * KiB).subarray(0, 13);
      client.send(encodeWrite(0, DATA.subarray(0, 64 * KiB)), next);
      await client.reply();
      await trial.settled();
    },
  },
  {
    moment: "in the middle of a payload",
    sinks: READING,
    async reach(client, trial) {
      client.send(encodeRequest(NBD_CMD_WRITE, 0, 1 << 20), DATA.subarray(0, 5000));
      await trial.settled();
    },
  },
  {
    moment: "while the command is slow",
    sinks: STALLED,
    async reach(client, trial) {
      client.send(encodeWrite(0, DATA));
      await trial.settled();
    },
  },
  {
    moment: "in a gap that would take years",
    sinks: COUNTING,
    async reach(client, trial) {
      client.send(encodeWrite(2n ** 62n, Buffer.from("x")));
      await trial.settled();
    },
  },
  {
    moment: "when the client has left, and the command has not read all",
    sinks: STALLED,
    async reach(client, trial) {
      // As much as fits in every pipe; more than a pipeline's first command reads at once, where there is room.
      const piece = Math.min(256 * KiB, roomOfPipes() / 4);
      for (const at of [0, piece]) client.send(encodeWrite(at, DATA.subarray(at, at + piece)));
      client.disconnect();
      await trial.program.saying(/client 1 ended: disconnected/);
    },
  },
];
