/** Answers to READ, in each form, taken apart and held to the specification. */
import {
  NBD_CMD_READ,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import type { Offset } from "../../src/protocol/offset.ts";
import type { EngineFixture } from "./engine.ts";
import { encodeExtended, encodeRequest } from "./wire.ts";
import type { Peer } from "./peer.ts";

export interface AskOptions {
  readonly flags?: number;
  /** By default, what the next clients negotiate. */
  readonly structured?: boolean;
  readonly extended?: boolean;
}

/** A READ that was sent. */
export interface Asked extends AskOptions {
  readonly cookie: bigint;
  readonly offset: Offset;
  readonly length: number;
  readonly structured: boolean;
}

/** A chunk of an answer. */
export interface Chunk {
  readonly type: number;
  readonly length: number;
}

export interface Answer {
  /** `NBD_E*`, or 0. */
  readonly error: number;
  /** What an error chunk says. */
  readonly message: string;
  /** What was read; of a refused READ, what had come before, up to the first gap. */
  readonly data: Buffer;
  /** The parts that it came in; none of a simple reply. */
  readonly chunks: readonly Chunk[];
}

export function encodeAsked({ cookie, offset, length, flags = 0, extended }: Asked): Buffer {
  const encode = extended === true ? encodeExtended : encodeRequest;
  return encode(NBD_CMD_READ, offset, length, { cookie, flags });
}

/** Takes the next answer, which has to be the one to `asked`. */
export function takeAnswer(stream: EngineFixture, peer: Peer, asked: Asked): Answer {
  const take = taking(stream, peer);
  if (!asked.structured) return simpleAnswer(take, asked);
  const header = takeHeader(take, asked.extended === true);
  return chunkedAnswer(take, asked, header);
}

/**
 * Takes the next answer of a connection with extended headers, whatever it is to.
 *
 * @param find the request of a cookie; what gives nothing back has a length of 0
 */
export function takeExtended(
  stream: EngineFixture,
  peer: Peer,
  find: (cookie: bigint) => Asked,
): Answer {
  const take = taking(stream, peer);
  const header = takeHeader(take, true);
  return chunkedAnswer(take, find(header.cookie), header);
}

type Take = (length: number) => Buffer;

function taking(stream: EngineFixture, peer: Peer): Take {
  return (length) => {
    stream.until(() => peer.available >= length || peer.finished);
    if (peer.available < length) throw new Error("the connection has ended in an answer");
    return peer.take(length);
  };
}

interface Header {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  /** The request's, of an extended reply. */
  readonly offset: bigint | undefined;
  readonly length: number;
}

function takeHeader(take: Take, extended: boolean): Header {
  const bytes = take(extended ? 32 : 20);
  const magic = extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC;
  demand(bytes.readUInt32BE(0) === magic, "a chunk");
  return {
    flags: bytes.readUInt16BE(4),
    type: bytes.readUInt16BE(6),
    cookie: bytes.readBigUInt64BE(8),
    offset: extended ? bytes.readBigUInt64BE(16) : undefined,
    length: extended ? Number(bytes.readBigUInt64BE(24)) : bytes.readUInt32BE(16),
  };
}

function simpleAnswer(take: Take, { cookie, length }: Asked): Answer {
  const header = take(16);
  demand(header.readUInt32BE(0) === NBD_SIMPLE_REPLY_MAGIC, "a simple reply");
  demand(header.readBigUInt64BE(8) === cookie, "the READ's cookie");
  const error = header.readUInt32BE(4);
  return { error, message: "", data: error === 0 ? take(length) : Buffer.alloc(0), chunks: [] };
}

function chunkedAnswer(take: Take, asked: Asked, first: Header): Answer {
  const { cookie, offset, length, extended = false } = asked;
  const data = Buffer.alloc(length);
  const seen = new Uint8Array(length);
  const chunks: Chunk[] = [];
  const cover = (from: bigint, count: number) => {
    const at = Number(from - BigInt(offset));
    demand(count > 0 && at >= 0 && at + count <= length, "a chunk inside the READ");
    demand(!seen.subarray(at, at + count).includes(1), "every byte once");
    seen.fill(1, at, at + count);
    return at;
  };
  for (let header = first; ; header = takeHeader(take, extended)) {
    const { flags, type } = header;
    demand(header.cookie === cookie, "the request's cookie");
    demand(!extended || header.offset === BigInt(offset), "the request's offset");
    demand((flags & ~NBD_REPLY_FLAG_DONE) === 0, "no unknown flags");
    const payload = take(header.length);
    const done = flags === NBD_REPLY_FLAG_DONE;
    let part = 0;
    switch (type) {
      case NBD_REPLY_TYPE_NONE:
        demand(done && payload.length === 0, "nothing in NBD_REPLY_TYPE_NONE");
        break;
      case NBD_REPLY_TYPE_OFFSET_DATA:
        part = payload.length - 8;
        payload.copy(data, cover(payload.readBigUInt64BE(0), part), 8);
        break;
      case NBD_REPLY_TYPE_OFFSET_HOLE:
        demand(payload.length === 12, "12 bytes in NBD_REPLY_TYPE_OFFSET_HOLE");
        part = payload.readUInt32BE(8);
        cover(payload.readBigUInt64BE(0), part);
        break;
      case NBD_REPLY_TYPE_ERROR: {
        const message = payload.subarray(6).toString();
        demand(done && payload.readUInt16BE(4) === payload.length - 6, "one message");
        const end = seen.indexOf(0);
        chunks.push({ type, length: 0 });
        const error = payload.readUInt32BE(0);
        return { error, message, data: data.subarray(0, end < 0 ? length : end), chunks };
      }
      default:
        throw new Error(`a chunk of type ${type}`);
    }
    chunks.push({ type, length: part });
    if (done) {
      demand(!seen.includes(0), "every byte");
      return { error: 0, message: "", data, chunks };
    }
  }
}

function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(`an answer without ${what}`);
}
