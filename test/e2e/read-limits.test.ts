/** A stream that is read, and clients that stop in the middle. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_CMD_READ } from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { encodeRequest } from "../support/wire.ts";
import { DATA, ReadTrial } from "../support/read-trial.ts";
import { GATE } from "../support/base-trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const ARGS = ["--idle-timeout=0.5", `size=${DATA.length}`];
/** For a client that is not to be cut off: far more than it takes on a busy machine. */
const PATIENT = ["--idle-timeout=2", `size=${DATA.length}`];
const LONGER = 2300;
const CUT = /client 1 was cut off: it has stopped in the middle of a request \(--idle-timeout\)/;

describe("--idle-timeout with read= cuts off a client that stops", () => {
  test.each([false, true])("to take its answers (structured: %p)", async (structured) => {
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ARGS });
    using client = await trial.reader(structured);
    client.raw.socket.pause();
    // Beyond the first MiB, it is one that moves the stream.
    client.ask(0, 4 * MiB);
    client.ask(4 * MiB, 4 * MiB);
    await trial.program.saying(CUT);
    await trial.fails({ status: 4, message: /truncated: / });
  });

  test("in a header", async () => {
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ARGS });
    using client = await trial.reader();
    expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    client.raw.send(encodeRequest(NBD_CMD_READ, 2 * MiB, KiB).subarray(0, 27));
    await client.raw.closed();
    await trial.program.saying(CUT);
    await trial.fails({ status: 4, message: /truncated: / });
  });
});

describe("--idle-timeout with read= leaves alone a client", () => {
  test("that is silent between two requests", async () => {
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: PATIENT });
    using client = await trial.reader();
    expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    await Bun.sleep(LONGER);
    const { data } = await client.readAll(2 * MiB, DATA.length, MiB);
    expect(data.equals(DATA.subarray(2 * MiB))).toBeTrue();
    client.disconnect();
    await trial.completes(DATA.length);
  });

  test("that waits for a slow source", async () => {
    const slow = `head -c ${3 * MiB} data; ${GATE}; tail -c +${3 * MiB + 1} data`;
    await using trial = await ReadTrial.serve({ fifo: slow }, { args: PATIENT });
    using client = await trial.reader();
    const all = client.readAll(0, DATA.length, 4 * MiB);
    await Bun.sleep(LONGER);
    trial.openGate();
    const { data } = await all;
    expect(data.equals(DATA)).toBeTrue();
    client.disconnect();
    await trial.completes(DATA.length);
  });
});
