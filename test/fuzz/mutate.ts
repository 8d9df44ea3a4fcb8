/** What makes a valid conversation a hostile one. */
import type { Random } from "./random.ts";

/** Numbers at which arithmetic goes wrong. */
const EDGES = [
  0, 1, 2, 0x7f, 0xff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff,
];

type Mutation = (messages: Buffer[], at: number, random: Random) => void;

const MUTATIONS: readonly Mutation[] = [
  // A bit, or some.
  (messages, at, random) => {
    const message = messages[at] as Buffer;
    for (let flips = random.between(1, 3); flips > 0 && message.length > 0; flips--) {
      // Headers are what matters: most of a payload is any bytes.
      const reach = random.chance(0.8) ? Math.min(message.length, 32) : message.length;
      const place = random.below(reach);
      message[place] = (message[place] as number) ^ (1 << random.below(8));
    }
  },
  // A number where there may be a length, an offset, a type.
  (messages, at, random) => {
    const message = messages[at] as Buffer;
    const place = 2 * random.below(18);
    if (place + 4 > message.length) return;
    const near = message.readUInt32BE(place) + random.between(-5, 5);
    const value = random.chance(0.5) ? near >>> 0 : random.pick(EDGES);
    message.writeUInt32BE(value, place);
  },
  // Out of order.
  (messages, at, random) => {
    const other = random.below(messages.length);
    const [one, two] = [messages[at] as Buffer, messages[other] as Buffer];
    messages[at] = two;
    messages[other] = one;
  },
  // Twice.
  (messages, at, random) => {
    const copies = random.chance(0.05) ? random.between(2, 150) : 1;
    const message = messages[at] as Buffer;
    messages.splice(at, 0, ...Array.from({ length: copies }, () => Buffer.from(message)));
  },
  // Not at all.
  (messages, at) => void messages.splice(at, 1),
  // The first part only, and on with the next.
  (messages, at, random) => {
    const message = messages[at] as Buffer;
    messages[at] = message.subarray(0, random.below(message.length + 1));
  },
  // Noise before it.
  (messages, at, random) => {
    messages.splice(at, 0, random.bytes(random.between(1, 40)));
  },
];

/** Changes a conversation here and there, or leaves it as it is. */
export function mutate(messages: readonly Buffer[], random: Random): Buffer[] {
  const changed = messages.map((message) => Buffer.from(message));
  const count = random.pick([0, 1, 1, 2, 4]);
  for (let i = 0; i < count && changed.length > 0; i++) {
    random.pick(MUTATIONS)(changed, random.below(changed.length), random);
  }
  return changed;
}

/** The bytes of a conversation, which may break off anywhere. */
export function flatten(messages: readonly Buffer[], random: Random): Buffer {
  const all = Buffer.concat(messages);
  return random.chance(0.2) ? all.subarray(0, random.below(all.length + 1)) : all;
}

/** The same bytes, in pieces as a network may deliver them. */
export function split(bytes: Buffer, random: Random): Buffer[] {
  const largest = random.pick([1, 30, 300, bytes.length, bytes.length]);
  const pieces: Buffer[] = [];
  // Byte by byte is for what is short: a million messages want to end.
  const least = Math.ceil(bytes.length / 400);
  for (let at = 0; at < bytes.length;) {
    const length = Math.max(least, random.between(1, Math.max(1, largest)));
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}
