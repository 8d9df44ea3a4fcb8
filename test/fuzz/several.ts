/** Several streams in one server, over real sockets, beside a model of each: nothing of one gets into another. */
import { closeSync, openSync, readFileSync } from "node:fs";
import { serve, type StreamSummary, TruncatedStreamsError } from "../../src/index.ts";
import {
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
} from "../../src/protocol/constants.ts";
import { infoRequest, metaContextRequest } from "../handshake/conversation.ts";
import { pseudoRandom } from "../support/images.ts";
import { RawClient } from "../support/nbd-client.ts";
import { Oracle } from "../support/oracle.ts";
import { bounded } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { flatten, mutate } from "./mutate.ts";
import type { Case } from "./negotiation.ts";
import { negotiation } from "./options.ts";
import { Random } from "./random.ts";
import { require } from "./require.ts";

/** Nobody calls an export so by chance. */
const NAMES = ["stream-a", "stream-b", "$(stream-c)", "stream d", "stream/e", "ström-f"];

interface Request {
  readonly kind: "write" | "zero" | "read";
  readonly client: number;
  readonly offset: number;
  readonly length: number;
}

/** One stream: its clients, and what they ask for, each when the one before is answered. */
interface Script {
  readonly name: string;
  readonly size: number;
  readonly window: number;
  readonly clients: number;
  readonly requests: readonly Request[];
  /** The data of its clients is nobody else's. */
  readonly seed: number;
}

export function severalCase(random: Random): Case {
  const names = NAMES.slice(0, random.between(2, NAMES.length));
  const scripts = names.map((name, i) => script(name, i, random));
  const strangers = Array.from({ length: random.below(8) }, () => {
    const bytes = flatten(mutate(negotiation(random), random), random);
    return { bytes, visits: random.chance(0.5) ? random.pick(names) : undefined };
  });
  return {
    messages: scripts.reduce((sum, { requests }) => sum + requests.length, strangers.length),
    pieces: () => [
      ...scripts.map((one) => JSON.stringify(one)),
      ...strangers.map(({ bytes, visits }) => `${visits ?? "stranger"}: ${bytes.toString("hex")}`),
    ],
    run: () => run(scripts, strangers, random),
  };
}

function script(name: string, index: number, random: Random): Script {
  const size = random.pick([512, 5000, 65_536, 200_000, 300_000]);
  const window = random.pick([0, 0, 65_536, 200_000]);
  const clients = random.between(1, 3);
  // The first one moves the stream, or it would never end.
  const requests: Request[] = [{ kind: "write", client: 0, offset: 0, length: 1 }];
  let at = 1;
  for (let left = random.below(40); left > 0; left--) {
    const kind = random.pick(["write", "write", "write", "zero", "read"] as const);
    const jump = random.chance(0.7)
      ? 0
      : random.chance(0.95)
        ? random.below(60_000)
        : -random.below(at + 1);
    const offset = Math.min(size, Math.max(0, at + jump));
    const length = Math.min(size - offset, random.pick([1, 511, 512, 4096, 65_536, 100_000]));
    if (length === 0) continue;
    requests.push({ kind, client: random.below(clients), offset, length });
    if (kind !== "read") at = offset + length;
  }
  return { name, size, window, clients, requests, seed: 1000 * (index + 1) + random.below(500) };
}

async function run(
  scripts: readonly Script[],
  strangers: readonly { readonly bytes: Buffer; readonly visits: string | undefined }[],
  random: Random,
): Promise<void> {
  using folder = tempFolder();
  const [path, output] = [folder.file("socket"), (i: number) => folder.file(`out${i}`)];
  const files = scripts.map((_, i) => openSync(output(i), "w"));
  try {
    const streams = serve({
      listen: { kind: "unix", path },
      streams: scripts.map(({ name, size, window }, i) => {
        return { exportName: name, pipe: files[i] as number, size, window, pad: false };
      }),
    });
    const end = streams.then(
      (summaries) => summaries,
      (error: unknown) => {
        if (error instanceof TruncatedStreamsError) return error.summaries;
        throw error;
      },
    );
    await bounded(new Promise((resolve) => streams.once("listening", resolve)), "the server");
    // Each with chance of its own, whatever comes first.
    const play = scripts.map((one) => perform(one, path, new Random(random.below(2 ** 31))));
    const visits = strangers.map((one) => visit(one, path, scripts));
    const models = await Promise.all(play);
    await Promise.all(visits);
    const summaries = await bounded(end, "the end");
    for (const [i, model] of models.entries()) {
      const summary = summaries[i] as StreamSummary;
      expectStream(readFileSync(output(i)), model, summary);
    }
  } finally {
    for (const fd of files) closeSync(fd);
  }
}

/** Plays one stream's clients. @returns the model, after the last request that was answered */
async function perform({ name, ...one }: Script, path: string, random: Random): Promise<Oracle> {
  const oracle = new Oracle(one.size, one.window);
  const clients: RawClient[] = [];
  try {
    for (let i = 0; i < one.clients; i++) clients.push(await choose(path, name, random));
    for (const [i, { kind, client, offset, length }] of one.requests.entries()) {
      const raw = clients[client] as RawClient;
      const what = () => `${name}: ${kind} ${offset}+${length}, number ${i}`;
      if (kind === "read") {
        const want = oracle.read(offset, length);
        const got = await raw.read(offset, length);
        const same =
          typeof got === "number" || typeof want === "number" ? got === want : got.equals(want);
        require(same, () => `${what()}: not what was written`);
        continue;
      }
      const data = kind === "write" ? pseudoRandom(length, one.seed + i) : undefined;
      const want = data === undefined ? oracle.zero(offset, length) : oracle.write(offset, data);
      const got =
        data === undefined ? await raw.writeZeroes(offset, length) : await raw.write(offset, data);
      require(got === want, () => `${what()}: ${got}, not ${want}`);
      // Nothing more is said on a stream that is broken.
      if (oracle.broken) return oracle;
    }
    for (const raw of clients) raw.disconnect();
    for (const raw of clients) await raw.closed();
    return oracle;
  } finally {
    for (const raw of clients) raw[Symbol.dispose]();
  }
}

/** A client of this stream, who has asked for others before. */
async function choose(path: string, name: string, random: Random): Promise<RawClient> {
  if (random.chance(0.3)) return await RawClient.transmission(path, name);
  const client = await RawClient.negotiating(path);
  for (const other of NAMES) {
    if (random.chance(0.3)) await client.option(NBD_OPT_INFO, infoRequest(other));
  }
  const reply = await client.option(NBD_OPT_GO, infoRequest(name));
  require(reply.type === NBD_REP_ACK, () => `${name} cannot be chosen: ${reply.type}`);
  return client;
}

/** Somebody who does not move any stream. */
async function visit(
  { bytes, visits }: { readonly bytes: Buffer; readonly visits: string | undefined },
  path: string,
  scripts: readonly Script[],
): Promise<void> {
  try {
    if (visits === undefined) {
      using stranger = await RawClient.connect(path);
      stranger.send(bytes);
      stranger.socket.end();
      await stranger.closed();
      return;
    }
    using client = await RawClient.negotiating(path);
    const other = scripts[0]?.name ?? "";
    await client.option(NBD_OPT_STRUCTURED_REPLY);
    await client.option(NBD_OPT_SET_META_CONTEXT, metaContextRequest(other, ["base:allocation"]));
    await client.option(NBD_OPT_GO, infoRequest(visits));
    client.socket.resetAndDestroy();
  } catch {
    // The streams may be over.
  }
}

/** What came out is what the model holds; of a broken stream, it is the beginning of that. */
function expectStream(output: Buffer, model: Oracle, summary: StreamSummary): void {
  const name = summary.export;
  const whole = model.finish();
  require(summary.complete === !model.broken, () => `${name}: ${JSON.stringify(summary)}`);
  if (summary.complete) {
    require(output.equals(whole), () => `${name}: ${output.length} bytes, not ${whole.length}`);
    return;
  }
  require(output.length <= whole.length && output.equals(whole.subarray(0, output.length)), () =>
    `${name}: ${output.length} bytes that are not its own`);
}
