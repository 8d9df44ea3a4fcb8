/** `spool=` with `--reconnect`: a client that is lost while its data waits in a file, or goes out of it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { SHA256 } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { GATE, Trial } from "../support/trial.ts";
import { encodeWrite } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const COUNT = 160;
const DATA = pseudoRandom(2 * MiB, 9);

function piece(number: number): Buffer {
  return DATA.subarray(number * 1001, number * 1001 + MiB);
}

const hash = createHash("sha256");
for (let i = 0; i < COUNT; i++) hash.update(piece(i));
const WHOLE = hash.digest("hex");

/** The second half comes first: more than is kept in memory where clients may come back. */
const ORDER = Array.from({ length: COUNT }, (_, i) => (i + COUNT / 2) % COUNT);

test.each([
  ["while memory takes what is ahead", 10, 0.5],
  ["while the file takes it", 75, 0.5],
  ["in the header of what the file would take", 76, 0],
  ["in order", 100, 0.5],
  ["in the last piece before what is held", COUNT - 1, 0.9],
  ["in the last piece, all of which is there", COUNT - 1, 1],
])("a client that is lost %s sends it again, and the stream is whole", async (_, lost, share) => {
  using folder = tempFolder();
  const args = [`spool=${folder.path}`, "--reconnect=30", `size=${COUNT * MiB}`];
  // It begins to read when all has been said once.
  await using trial = await Trial.serve({ exec: `${GATE}; ${SHA256} > part` }, { args });
  let client = await trial.client();
  for (const [i, number] of ORDER.entries()) {
    if (i === lost) {
      const all = encodeWrite(number * MiB, piece(number));
      const length = share === 0 ? 20 : 28 + Math.floor(MiB * share);
      await new Promise<void>((resolve) =>
        client.socket.write(all.subarray(0, length), () => resolve()),
      );
      client.socket.destroy();
      client[Symbol.dispose]();
      client = await trial.client();
      // What has been answered may be repeated, too.
      const before = ORDER[i - 1] as number;
      client.send(encodeWrite(before * MiB, piece(before)));
      if (i >= COUNT / 2) trial.openGate();
      expect((await client.reply()).error).toBe(0);
    }
    if (i === COUNT / 2) trial.openGate();
    expect(await client.write(number * MiB, piece(number))).toBe(0);
    expect(readdirSync(folder.path)).toEqual([]);
  }
  client.disconnect();
  const { status, stderr } = await trial.program.ended();
  client[Symbol.dispose]();
  expect(status, stderr).toBe(0);
  expect((await trial.sink.output()).toString().slice(0, 64)).toBe(WHOLE);
  await trial.leavesNothing();
});
