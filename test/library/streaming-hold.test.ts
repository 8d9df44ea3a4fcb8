/** Streams of a program of its own whose clients write in any order, and again. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import {
  type Listening,
  type OwnOptions,
  run,
  type ServeOptions,
  serve,
  type Streaming,
  type Summary,
  TruncatedError,
} from "../../src/index.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { bounded, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());
const spools = tempFolder();
afterAll(() => spools[Symbol.dispose]());

let files = 0;
const fresh = (name: string) => folder.file(`${files++}-${name}`);

const KiB = 1024;
const BYTES = pseudoRandom(256 * KiB);
const SPOOL = { spool: spools.path } as const;
const HOLD = { ...SPOOL, hold: true } as const;

function serveInto(output: string, options: ServeOptions) {
  const path = fresh("nbd.sock");
  const pipe = `exec:echo > ${output}.begun; cat > ${output}`;
  return { path, stream: serve({ pipe, listen: { kind: "unix", path }, ...options }) };
}

const listening = (stream: Streaming) =>
  bounded(new Promise<Listening>((resolve) => stream.once("listening", resolve)), "the server");

const complete = (stream: Streaming) => bounded<Summary>(stream, "the end");

/** Writes parts of BYTES, from the last to the first. */
async function writeBackward(path: string, exportName = ""): Promise<void> {
  using client = await RawClient.transmission(path, exportName);
  for (let at = BYTES.length - 64 * KiB; at >= 0; at -= 64 * KiB) {
    expect(await client.write(at, BYTES.subarray(at, at + 64 * KiB))).toBe(0);
  }
  client.disconnect();
  await client.closed();
}

async function writeOnce(path: string, at: number, bytes: Uint8Array): Promise<void> {
  using client = await RawClient.transmission(path);
  expect(await client.write(at, bytes)).toBe(0);
  client.disconnect();
  await client.closed();
}

describe("serve", () => {
  test.each([{ window: 0 }, { window: "64K" }, {}])(
    "with spool and %p streams what is written backwards",
    async (window) => {
      const output = fresh("out");
      const { path, stream } = serveInto(output, { ...SPOOL, ...window });
      await listening(stream);
      await writeBackward(path);
      expect(await complete(stream)).toMatchObject({ complete: true, bytes: BYTES.length });
      expect(readFileSync(output).equals(BYTES)).toBeTrue();
      expect(readdirSync(spools.path)).toEqual([]);
    },
  );

  test("with hold streams what was written last, and only at the end", async () => {
    const output = fresh("out");
    const { path, stream } = serveInto(output, { ...HOLD, size: BYTES.length + 512 });
    await listening(stream);
    await writeOnce(path, 0, pseudoRandom(100 * KiB, 2));
    await writeBackward(path);
    expect(existsSync(`${output}.begun`)).toBeFalse();
    expect(await complete(stream)).toMatchObject({ complete: true, bytes: BYTES.length + 512 });
    expect(readFileSync(output).equals(Buffer.concat([BYTES, Buffer.alloc(512)]))).toBeTrue();
  });

  test("with hold, keep and pad false ends where the data does when it is stopped", async () => {
    const output = fresh("out");
    const { path, stream } = serveInto(output, { ...HOLD, keep: true, pad: false, size: "1T" });
    await listening(stream);
    await writeBackward(path);
    stream.stop();
    expect(await complete(stream)).toMatchObject({ complete: true, bytes: BYTES.length });
    expect(readFileSync(output).equals(BYTES)).toBeTrue();
  });

  test("with hold tells of a client that came late in its own words", async () => {
    const begun = fresh("begun");
    const { path, stream } = serveInto(fresh("out"), {
      ...HOLD,
      pipe: `exec:echo > ${begun}; sleep 60`,
    });
    await listening(stream);
    const end = stream.then(
      () => undefined,
      (error: unknown) => error,
    );
    await writeBackward(path);
    await eventually(() => existsSync(begun), "the stream to begin");
    using late = await RawClient.transmission(path);
    await late.closed();
    const error = await bounded(end, "the end");
    expect(error).toBeInstanceOf(TruncatedError);
    const { summary, exitStatus } = error as TruncatedError;
    expect(exitStatus).toBe(4);
    expect(summary.reason).toMatch(/^a client has come when .*: use keep: true, /);
  });
});

describe("run", () => {
  test("with hold streams the image that its command makes", async () => {
    const output = fresh("out");
    const command =
      'qemu-img create -q -f qcow2 "$nbd" 1M && qemu-io -f qcow2 -c "write -P 7 0 64k" "$nbd"';
    const stream = run({ ...HOLD, pipe: `exec:cat > ${output}`, pad: false, size: "1G", command });
    await complete(stream);
    expect(readFileSync(output).subarray(0, 4).toString("latin1")).toBe("QFI\xfb");
    expect(
      readFileSync(output)
        .subarray(-64 * KiB)
        .every((byte) => byte === 7),
    ).toBeTrue();
  });

  test("with hold starts no sink where its command fails", async () => {
    const output = fresh("out");
    const command = 'qemu-io -f raw -c "write 0 64k" "$nbd" && exit 5';
    const stream = run({ ...HOLD, pipe: `exec:echo > ${output}`, size: "1M", command });
    const error = await bounded(
      stream.then(
        () => undefined,
        (reason: unknown) => reason,
      ),
      "the end",
    );
    expect(error).toMatchObject({ exitStatus: 5 });
    expect(existsSync(output)).toBeFalse();
  });
});

test("each of several streams has its own", async () => {
  const path = fresh("nbd.sock");
  const [held, spooled, plain] = [fresh("held"), fresh("spooled"), fresh("plain")];
  const own: OwnOptions[] = [
    { exportName: "held", ...HOLD, pipe: `exec:cat > ${held}` },
    { exportName: "spooled", ...SPOOL, pipe: `exec:cat > ${spooled}` },
    { exportName: "plain", pipe: `exec:cat > ${plain}` },
  ];
  const streams = serve({ listen: { kind: "unix", path }, streams: own });
  await bounded(new Promise<any>((resolve) => streams.once("listening", resolve)), "the server");
  await writeBackward(path, "held");
  await writeBackward(path, "spooled");
  using client = await RawClient.transmission(path, "plain");
  expect(await client.write(0, BYTES)).toBe(0);
  client.disconnect();
  const summaries = await bounded(Promise.resolve(streams), "the end");
  expect(summaries.map(({ bytes }) => bytes)).toEqual([BYTES, BYTES, BYTES].map((b) => b.length));
  for (const output of [held, spooled, plain]) {
    expect(readFileSync(output).equals(BYTES)).toBeTrue();
  }
});
