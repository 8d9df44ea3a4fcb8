/** Clients of an engine that a case turns by hand. */
import type { EngineFixture } from "../support/engine.ts";
import type { Peer } from "../support/peer.ts";
import { flatten, mutate, split } from "./mutate.ts";
import type { Random } from "./random.ts";
import { type ReplyForm, type Taken, takeReply } from "./reply.ts";
import {
  describeRequest,
  type Found,
  type Leaving,
  requests,
  takeApart,
  type Way,
} from "./requests.ts";
import { require } from "./require.ts";

/** All that a client says, and what it is. */
export interface Script {
  readonly messages: number;
  readonly bytes: Buffer;
  readonly pieces: readonly Buffer[];
  readonly found: readonly Found[];
  readonly leaving: Leaving;
  readonly structured: boolean;
  readonly extended: boolean;
  readonly allocation: boolean;
  /** It hangs up when all is said, and takes no replies. */
  readonly rude: boolean;
}

/** Some clients. @param together they come at once, and may be rude */
export function scripts(way: Way, size: number, random: Random, together: boolean): Script[] {
  return Array.from({ length: random.pick(together ? [2, 3] : [1, 1, 2, 3]) }, () => {
    const extended = random.chance(0.4);
    const messages = mutate(requests(way, size, random, extended), random);
    const bytes = flatten(messages, random);
    const structured = extended || random.chance(0.5);
    const allocation = structured && random.chance(0.5);
    const rude = together && random.chance(0.3);
    return {
      messages: messages.length,
      bytes,
      pieces: split(bytes, random),
      ...takeApart(bytes, extended),
      structured,
      extended,
      allocation,
      rude,
    };
  });
}

export function describeScripts(scripts: readonly Script[]): string[] {
  return scripts.flatMap(({ pieces, structured, extended, allocation, rude }, i) => [
    Object.entries({ structured, extended, allocation, rude }).reduce(
      (line, [what, holds]) => (holds ? `${line} ${what}` : line),
      `client ${i}`,
    ),
    ...pieces.map((piece) => piece.toString("hex")),
  ]);
}

/** Lets the engine take so many turns. */
export function turns(stream: EngineFixture, count: number): void {
  let left = count;
  stream.until(() => left-- <= 0);
}

/** Connects, with the first piece as what came early. */
export function connect(stream: EngineFixture, script: Script): Peer {
  stream.negotiated = script;
  return stream.connect(new Uint8Array(script.pieces[0] ?? []));
}

/** The client comes, and says all that it has to say, piece by piece. */
export function say(stream: EngineFixture, script: Script, random: Random): Peer {
  const peer = connect(stream, script);
  for (const piece of script.pieces.slice(1)) {
    peer.send(piece);
    turns(stream, random.below(3));
  }
  return peer;
}

/**
 * Takes the answers to all whole requests, in the order in which they come.
 *
 * @param expected the error that a request gets, or the bytes that it reads
 */
export function takeAnswers(
  stream: EngineFixture,
  peer: Peer,
  script: Script,
  expected: (one: Found) => number | Uint8Array,
): void {
  const pending = script.found.filter((one) => one.whole);
  const wants = new Map(pending.map((one) => [one, expected(one)]));
  const fits = (one: Found, error: number) => {
    const want = wants.get(one);
    return (typeof want === "number" ? want : 0) === error;
  };
  while (pending.length > 0) {
    const taken = nextReply(stream, peer, pending, script, fits);
    require(taken !== undefined, () => `${pending.length} requests got no answer`);
    const { request, error, data } = taken;
    const want = wants.get(request) as number | Uint8Array;
    require(fits(request, error), () =>
      `${describeRequest(request)} got ${error}, not ${typeof want === "number" ? want : 0}`);
    require(typeof want === "number" || data.equals(want), () =>
      `${describeRequest(request)}: data`);
  }
}

/** The next reply that has to come, or undefined if the connection ends instead. */
export function nextReply(
  stream: EngineFixture,
  peer: Peer,
  pending: Found[],
  form: ReplyForm,
  fits?: (request: Found, error: number) => boolean,
): Taken | undefined {
  const take = (length: number) => {
    stream.until(() => peer.available >= length || peer.finished);
    return peer.available < length ? undefined : peer.take(length);
  };
  return takeReply(take, pending, form, fits);
}

/**
 * The client leaves the way its bytes end; the engine must call it by its name.
 *
 * @param nth how many clients there are with it
 * @param hard at once, and not only by half
 */
export function leave(
  stream: EngineFixture,
  peer: Peer,
  { leaving }: Script,
  nth: number,
  hard: boolean,
): void {
  if (leaving === "dropped" || leaving === "cut") {
    stream.until(() => peer.allSent || peer.finished);
    if (hard) stream.hangUp(peer);
    else peer.halfClose();
  }
  stream.until(() => stream.ends.length === nth);
  const end = stream.ends.at(-1);
  require(end === leaving, `the connection is "${end}", not "${leaving}"`);
  if (hard && (leaving === "dropped" || leaving === "cut")) return;
  stream.until(() => peer.finished);
  require(peer.available === 0, `${peer.available} bytes more than the replies`);
}

/**
 * All clients say all that they have to say at once, and then no more: the rude ones are gone at once.
 * One in the middle of a WRITE keeps the others waiting until then.
 */
export function connectAll(
  stream: EngineFixture,
  clients: readonly Script[],
  random: Random,
): Peer[] {
  const peers = clients.map((script) => connect(stream, script));
  const rounds = Math.max(...clients.map(({ pieces }) => pieces.length));
  for (let round = 1; round < rounds; round++) {
    for (const [i, { pieces }] of clients.entries()) {
      const piece = pieces[round];
      if (piece !== undefined) peers[i]?.send(piece);
    }
    turns(stream, random.below(2));
  }
  const talking = new Set(peers);
  const haveSaid = () => {
    for (const peer of talking) {
      if (!peer.allSent && !peer.finished) continue;
      talking.delete(peer);
      if (clients[peers.indexOf(peer)]?.rude) stream.hangUp(peer);
      else if (!peer.finished) peer.halfClose();
    }
    return talking.size === 0;
  };
  stream.until(haveSaid);
  return peers;
}
