/** Answers of an engine that a test turns by hand. */
import { NBD_CMD_READ } from "../../src/protocol/constants.ts";
import type { Offset } from "../../src/protocol/offset.ts";
import type { EngineFixture } from "./engine.ts";
import type { Peer } from "./peer.ts";
import { type Answer, answerTo, type Asked, decodeReply, extentsIn } from "./replies.ts";
import { encodeExtended, encodeRequest } from "./wire.ts";

/** A READ as it goes over the wire. */
export function encodeAsked({ cookie, offset, length, flags = 0, extended }: Asked): Buffer {
  const encode = extended === true ? encodeExtended : encodeRequest;
  return encode(NBD_CMD_READ, offset, length, { cookie, flags });
}

/** Takes the next answer, which has to be the one to `asked`. */
export function takeAnswer(stream: EngineFixture, peer: Peer, asked: Asked): Answer {
  return answerTo(
    asked,
    stream.take(
      peer,
      decodeReply(() => asked.length),
    ),
  );
}

/**
 * Takes the next answer of a connection, whatever it is to.
 *
 * @param find the request of a cookie, asked for once
 */
export function takeAny(
  stream: EngineFixture,
  peer: Peer,
  find: (cookie: bigint) => Asked,
): Answer & { readonly cookie: bigint } {
  let asked: Asked | undefined;
  const reply = stream.take(
    peer,
    decodeReply((cookie) => (asked = find(cookie)).length),
  );
  return { cookie: reply.cookie, ...answerTo(asked ?? find(reply.cookie), reply) };
}

/** Takes the next answer, which has to be to a BLOCK_STATUS. @returns the extents, or the error */
export function takeStatus(
  stream: EngineFixture,
  peer: Peer,
  { offset, cookie }: { readonly offset: Offset; readonly cookie: bigint },
): [Offset, number][] | number {
  const asked = { cookie, offset, length: 0, ...stream.negotiated };
  return extentsIn(asked, stream.take(peer, decodeReply()));
}
