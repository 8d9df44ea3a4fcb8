/** Requests of any kind to an engine that a test turns by hand, and their answers beside a model's. */
import { expect } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_STATE_ZERO,
} from "../../src/protocol/constants.ts";
import type { DiskModel, DiskRequest } from "./disk-model.ts";
import type { HoldFixture } from "./hold.ts";
import type { Peer } from "./peer.ts";
import { type Answer, answerTo, decodeReply, extentsIn } from "./replies.ts";
import { encodeExtended, encodeRequest, encodeWithPayload } from "./wire.ts";

/** What a client negotiates. */
export type Form = "compact" | "structured" | "extended";

/** A client of the engine. */
export class DiskClient {
  readonly peer: Peer;
  readonly form: { readonly structured: boolean; readonly extended: boolean; allocation: boolean };
  readonly #stream: HoldFixture;
  readonly #asked = new Map<bigint, DiskRequest>();
  #cookie = 0n;

  constructor(stream: HoldFixture, form: Form = "compact", early?: Uint8Array) {
    const structured = form !== "compact";
    this.form = { structured, extended: form === "extended", allocation: structured };
    stream.negotiated = this.form;
    this.#stream = stream;
    this.peer = stream.connect(early);
  }

  /** Sends a request without waiting. @returns its cookie */
  send(request: DiskRequest, payload: Uint8Array = new Uint8Array(0)): bigint {
    const cookie = ++this.#cookie;
    this.#asked.set(cookie, request);
    this.peer.send(this.encode(request, payload, cookie));
    return cookie;
  }

  encode(
    { type, flags, offset, length }: DiskRequest,
    payload: Uint8Array,
    cookie: bigint,
  ): Buffer {
    const fields = { flags, cookie };
    if (!this.form.extended) {
      return Buffer.concat([encodeRequest(type, offset, length, fields), payload]);
    }
    return type === NBD_CMD_WRITE
      ? encodeWithPayload(type, offset, payload, fields)
      : encodeExtended(type, offset, length, fields);
  }

  /** Takes the next answer, to whichever request. */
  take(): Answer & { cookie: bigint; extents: [number, number][] } {
    const length = (cookie: bigint) => {
      const { type, length } = this.#asked.get(cookie) as DiskRequest;
      return type === NBD_CMD_READ ? length : 0;
    };
    const reply = this.#stream.take(this.peer, decodeReply(length));
    const { cookie } = reply;
    const request = this.#asked.get(cookie) as DiskRequest;
    this.#asked.delete(cookie);
    const { type, offset } = request;
    const isChunked = type === NBD_CMD_READ || type === NBD_CMD_BLOCK_STATUS;
    const { extended } = this.form;
    const structured = extended || (this.form.structured && isChunked);
    const asked = {
      cookie,
      offset,
      length: type === NBD_CMD_READ ? request.length : 0,
      structured,
      extended,
    };
    if (type !== NBD_CMD_BLOCK_STATUS || !this.form.allocation) {
      return { cookie, ...answerTo(asked, reply), extents: [] };
    }
    const found = extentsIn(asked, reply);
    const extents = typeof found === "number" ? [] : found;
    return {
      cookie,
      error: reply.error,
      message: reply.message,
      data: Buffer.alloc(0),
      chunks: [],
      extents: extents.map(([bytes, state]) => [Number(bytes), state]),
    };
  }

  /** Asks, and takes the answer. */
  ask(request: DiskRequest, payload?: Uint8Array): ReturnType<DiskClient["take"]> {
    this.send(request, payload);
    return this.take();
  }

  /** Takes the next answer, which has to be the model's. @param wants by cookie, with a copy of the disk for extents */
  takeAsModelled(wants: Map<bigint, Want>): void {
    const { cookie, error, data, extents } = this.take();
    const { request, answer, disk } = wants.get(cookie) as Want;
    wants.delete(cookie);
    const { type, flags, offset, length } = request;
    const what = `type ${type} flags ${flags} of ${length} bytes at ${offset}`;
    expect(error, what).toBe(typeof answer === "number" ? answer : 0);
    if (typeof answer !== "number") expect(data.equals(answer), what).toBeTrue();
    let at = offset;
    for (const [bytes, state] of extents) {
      expect(bytes).toBeGreaterThan(0);
      const there = disk?.subarray(at, at + bytes);
      const isZero = there?.every((byte) => byte === 0) ?? true;
      if ((state & NBD_STATE_ZERO) !== 0) expect(isZero, what).toBeTrue();
      at += bytes;
    }
    expect(at).toBeLessThanOrEqual(offset + length);
  }
}

/** What a request's answer has to be. */
export interface Want {
  readonly request: DiskRequest;
  readonly answer: number | Uint8Array;
  /** The disk at that time, for a block status. */
  readonly disk: Uint8Array | undefined;
}

/** Asks the model. */
export function wanted(
  model: DiskModel,
  client: DiskClient,
  request: DiskRequest,
  payload: Uint8Array,
): Want {
  const answer = model.ask(request, payload, client.form);
  const disk = request.type === NBD_CMD_BLOCK_STATUS ? model.disk.slice() : undefined;
  return { request, answer, disk };
}
