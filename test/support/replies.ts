/**
 * Replies of the transmission phase, taken apart and held to the specification: one codec for whatever
 * they come over. `test/fuzz/reply.ts` is another one on purpose.
 */
import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import type { Offset } from "../../src/protocol/offset.ts";

/** Takes something apart: yields how many bytes it needs next, and is given exactly those. */
export type Decoder<T> = Generator<number, T, Buffer>;

/** Runs a decoder where bytes can be had without waiting. */
export function decode<T>(decoder: Decoder<T>, take: (length: number) => Buffer): T {
  let step = decoder.next();
  while (step.done !== true) step = decoder.next(take(step.value));
  return step.value;
}

/** A whole reply, of all of its chunks. */
export interface Reply {
  readonly form: "simple" | "structured" | "extended";
  readonly cookie: bigint;
  /** The request's offset, of an extended reply. */
  readonly offset: bigint | undefined;
  /** `NBD_E*`, or 0. */
  readonly error: number;
  /** What an error chunk says. */
  readonly message: string;
  /** The types of the chunks, and their payloads; none of a simple reply. */
  readonly chunks: readonly (readonly [type: number, payload: Buffer])[];
  /** What follows a simple reply. */
  readonly data: Buffer;
}

/** The only values that may go over the wire ("Error values"). */
const ERRORS = new Set([0, 1, 5, 12, 22, 28, 75, 95, 108]);

const NOTHING = Buffer.alloc(0);

/**
 * Takes the next reply, in whichever form it comes.
 *
 * @param dataOf how many bytes the request of a cookie reads: they follow a simple reply without an error
 */
export function* decodeReply(dataOf: (cookie: bigint) => number = () => 0): Decoder<Reply> {
  const first = yield 16;
  const [magic, cookie] = [first.readUInt32BE(0), first.readBigUInt64BE(8)];
  let [error, message] = [0, ""];
  let offset: bigint | undefined;
  const chunks: [number, Buffer][] = [];
  if (magic === NBD_SIMPLE_REPLY_MAGIC) {
    error = first.readUInt32BE(4);
    demand(ERRORS.has(error), `an error other than ${error}`);
    const data = error === 0 ? yield dataOf(cookie) : NOTHING;
    return { form: "simple", cookie, offset, error, message, chunks, data };
  }
  const form = magic === NBD_EXTENDED_REPLY_MAGIC ? "extended" : "structured";
  for (let header = first; ; header = yield 16) {
    demand(
      header.readUInt32BE(0) === (form === "extended" ? magic : NBD_STRUCTURED_REPLY_MAGIC),
      `the magic of a chunk in ${header.toString("hex")}`,
    );
    demand(header.readBigUInt64BE(8) === cookie, "the cookie of its first chunk in all of them");
    const flags = header.readUInt16BE(4);
    const done = flags === NBD_REPLY_FLAG_DONE;
    demand(done || flags === 0, `flags other than ${flags}`);
    const rest = yield form === "extended" ? 16 : 4;
    if (form === "extended") {
      offset ??= rest.readBigUInt64BE(0);
      demand(rest.readBigUInt64BE(0) === offset, "the offset of its first chunk in all of them");
    }
    const payload = yield form === "extended"
      ? Number(rest.readBigUInt64BE(8))
      : rest.readUInt32BE(0);
    const type = header.readUInt16BE(6);
    chunks.push([type, payload]);
    if (type === NBD_REPLY_TYPE_NONE) {
      demand(done && payload.length === 0, "nothing in NBD_REPLY_TYPE_NONE");
    } else if (type === NBD_REPLY_TYPE_ERROR) {
      error = payload.readUInt32BE(0);
      // "the server MUST NOT send NBD_OK", and the text has its own length.
      demand(error !== 0 && ERRORS.has(error), `an error other than ${error}`);
      demand(done && payload.readUInt16BE(4) === payload.length - 6, "one message at its end");
      message = payload.toString("utf8", 6);
    }
    if (done) return { form, cookie, offset, error, message, chunks, data: NOTHING };
  }
}

/** A request that was sent, and what was negotiated before. */
export interface Asked {
  readonly cookie: bigint;
  readonly offset: Offset;
  /** Bytes that it reads: 0 of what gives nothing back. */
  readonly length: number;
  readonly flags?: number;
  readonly structured: boolean;
  readonly extended?: boolean;
}

/** What a request came to. */
export interface Answer {
  /** `NBD_E*`, or 0. */
  readonly error: number;
  /** What an error chunk says. */
  readonly message: string;
  /** What was read; of a refused READ, what had come before, up to the first gap. */
  readonly data: Buffer;
  /** The parts that it came in; none of a simple reply. */
  readonly chunks: readonly { readonly type: number; readonly length: number }[];
}

/** @throws Error when it is not the reply to that request, in the form that was negotiated */
function demandFor({ cookie, offset, structured, extended = false }: Asked, reply: Reply): void {
  const form = extended ? "extended" : structured ? "structured" : "simple";
  demand(reply.form === form, `the form ${form}`);
  demand(reply.cookie === cookie, "the request's cookie");
  demand(!extended || reply.offset === BigInt(offset), "the request's offset");
}

/** @returns what a reply gives to the one who asked; it has to be the reply to that, and all of it */
export function answerTo(asked: Asked, reply: Reply): Answer {
  demandFor(asked, reply);
  const { error, message } = reply;
  if (!asked.structured) return { error, message, data: reply.data, chunks: [] };
  const { offset, length } = asked;
  const data = Buffer.alloc(length);
  const seen = new Uint8Array(length);
  const cover = (from: bigint, count: number) => {
    const at = Number(from - BigInt(offset));
    demand(count > 0 && at >= 0 && at + count <= length, "a chunk inside the READ");
    demand(!seen.subarray(at, at + count).includes(1), "every byte once");
    seen.fill(1, at, at + count);
    return at;
  };
  const chunks = reply.chunks.map(([type, payload]) => {
    let part = 0;
    if (type === NBD_REPLY_TYPE_OFFSET_DATA) {
      part = payload.length - 8;
      payload.copy(data, cover(payload.readBigUInt64BE(0), part), 8);
    } else if (type === NBD_REPLY_TYPE_OFFSET_HOLE) {
      demand(payload.length === 12, "12 bytes in NBD_REPLY_TYPE_OFFSET_HOLE");
      part = payload.readUInt32BE(8);
      cover(payload.readBigUInt64BE(0), part);
    } else {
      demand(type === NBD_REPLY_TYPE_NONE || type === NBD_REPLY_TYPE_ERROR, `type ${type}`);
    }
    return { type, length: part };
  });
  const gap = seen.indexOf(0);
  demand(error !== 0 || gap < 0, "every byte");
  return { error, message, data: gap < 0 ? data : data.subarray(0, gap), chunks };
}

/**
 * What a reply to BLOCK_STATUS says of `base:allocation`, which is the context of number 1.
 *
 * @returns lengths and states, or the error
 */
export function extentsIn(asked: Asked, reply: Reply): [Offset, number][] | number {
  demandFor(asked, reply);
  const { error, chunks } = reply;
  if (error !== 0) return error;
  const { extended = false } = asked;
  const [[type, payload] = [0, NOTHING], ...others] = chunks;
  const wanted = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
  demand(type === wanted && others.length === 0, "one chunk of a block status");
  demand(payload.readUInt32BE(0) === 1, "the context that was negotiated");
  const extents: [Offset, number][] = [];
  if (!extended) {
    for (let at = 4; at < payload.length; at += 8) {
      extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
    }
    return extents;
  }
  // "the server MUST ensure that the header length is equal to descriptor count * 16 + 8".
  demand(payload.length === 8 + 16 * payload.readUInt32BE(4), "as many descriptors as it says");
  for (let at = 8; at < payload.length; at += 16) {
    // "the most-significant 32 bits of status MUST be all zeroes".
    demand(payload.readUInt32BE(at + 8) === 0, "32 bits of status");
    extents.push([payload.readBigUInt64BE(at), payload.readUInt32BE(at + 12)]);
  }
  return extents;
}

function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(`a reply without ${what}`);
}
