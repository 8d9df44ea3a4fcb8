/** What real clients say, as it was recorded from them. */
import { expect, test } from "bun:test";
import {
  ALLOCATION,
  ANY_NAME,
  converse,
  DISK,
  EXTENDED,
  hex,
  reply,
  STRUCTURED,
  transmission,
} from "./conversation.ts";

const ABORT = 2;
const LIST = 3;
const INFO = 6;
const GO = 7;
const STRUCTURED_REPLY = 8;
const LIST_META_CONTEXT = 9;
const SET_META_CONTEXT = 10;
const EXTENDED_HEADERS = 11;

const ACK = 1;
const SERVER = 2;
const REP_INFO = 3;
const META_CONTEXT = 4;

/** The beginning of all of them: client flags and STRUCTURED_REPLY. */
const START = "00000003" + "49484156454f5054" + "00000008" + "00000000";
const STARTED = reply(STRUCTURED_REPLY, ACK);

/** Of SET_META_CONTEXT, for the default export. */
const SELECT =
  "49484156454f5054" +
  "0000000a" +
  "0000001b" +
  "00000000000000010000000f626173653a616c6c6f636174696f6e";
const SELECTED =
  reply(SET_META_CONTEXT, META_CONTEXT, `00000001${hex("base:allocation")}`) +
  reply(SET_META_CONTEXT, ACK);

/** Of LIST_META_CONTEXT without queries. */
const LIST_ALL = "49484156454f5054" + "00000009" + "00000008" + "0000000000000000";
const LISTED_ALL =
  reply(LIST_META_CONTEXT, META_CONTEXT, `00000000${hex("base:allocation")}`) +
  reply(LIST_META_CONTEXT, ACK);

const EXPORT_INFO = "0000" + "0000000040000000" + "00cd";
const BLOCK_SIZE_INFO = "0003" + "00000001" + "00001000" + "02000000";

/** What INFO or GO are answered when they ask for block sizes. */
function sizes(option: number): string {
  return (
    reply(option, REP_INFO, EXPORT_INFO) +
    reply(option, REP_INFO, BLOCK_SIZE_INFO) +
    reply(option, ACK)
  );
}

/** The same when they ask for the canonical name and the description as well. */
function details(option: number): string {
  return (
    reply(option, REP_INFO, EXPORT_INFO) +
    reply(option, REP_INFO, `0001${hex("disk")}`) +
    reply(option, REP_INFO, `0002${hex("a stream")}`) +
    reply(option, REP_INFO, BLOCK_SIZE_INFO) +
    reply(option, ACK)
  );
}

const bytes = (text: string): Buffer => Buffer.from(text, "hex");

test("qemu and libnbd get structured replies, the context and the export", () => {
  // qemu-img info (7.2.22), nbdinfo --map and nbdcopy (1.14.2): GO with NBD_INFO_BLOCK_SIZE.
  const go = "49484156454f5054" + "00000007" + "00000008" + "0000000000010003";
  expect(converse(ANY_NAME, bytes(START + SELECT + go))).toEqual({
    output: STARTED + SELECTED + sizes(GO),
    end: transmission("", "", ALLOCATION),
  });
});

test("newer ones of both get extended headers, which they ask for in place of structured replies", () => {
  const start = "00000003" + "49484156454f5054" + "0000000b" + "00000000";
  const started = reply(EXTENDED_HEADERS, ACK);
  const info = "49484156454f5054" + "00000006" + "00000008" + "0000000000010003";
  const go = "49484156454f5054" + "00000007" + "00000008" + "0000000000010003";
  const end = transmission("", "", { ...EXTENDED, allocation: true });
  // qemu-img map (10.0.13).
  expect(converse(ANY_NAME, bytes(start + SELECT + go))).toEqual({
    output: started + SELECTED + sizes(GO),
    end,
  });
  // nbdinfo --map (1.22.2).
  expect(converse(ANY_NAME, bytes(start + SELECT + info + SELECT + go))).toEqual({
    output: started + SELECTED + sizes(INFO) + SELECTED + sizes(GO),
    end,
  });
});

test("nbdinfo gets every information that there is", () => {
  const info = "49484156454f5054" + "00000006" + "0000000c" + "000000000003000300010002";
  const go = "49484156454f5054" + "00000007" + "0000000c" + "000000000003000300010002";
  expect(converse(DISK, bytes(START + info + LIST_ALL + go))).toEqual({
    output: STARTED + details(INFO) + LISTED_ALL + details(GO),
    end: transmission("", "", STRUCTURED),
  });
});

test("nbdinfo --list gets the exports and their contexts", () => {
  const list = "49484156454f5054" + "00000003" + "00000000";
  const info = "49484156454f5054" + "00000006" + "00000010" + "000000046469736b0003000300010002";
  const all = "49484156454f5054" + "00000009" + "0000000c" + "000000046469736b00000000";
  const abort = "49484156454f5054" + "00000002" + "00000000";
  expect(converse(DISK, bytes(START + list + info + all + abort))).toEqual({
    output:
      STARTED +
      reply(LIST, SERVER, `00000004${hex("disk")}`) +
      reply(LIST, ACK) +
      details(INFO) +
      LISTED_ALL +
      reply(ABORT, ACK),
    end: { kind: "close", reason: "the client ended negotiation", fault: false },
  });
});

test("qemu-nbd --list gets the exports, their contexts and none of qemu's own", () => {
  const list = "49484156454f5054" + "00000003" + "00000000";
  const info = "49484156454f5054" + "00000006" + "00000008" + "0000000000010003";
  const qemu =
    "49484156454f5054" + "00000009" + "00000011" + "000000000000000100000005" + hex("qemu:");
  const abort = "49484156454f5054" + "00000002" + "00000000";
  expect(converse(ANY_NAME, bytes(START + list + info + LIST_ALL + qemu + abort))).toEqual({
    output:
      STARTED +
      reply(LIST, SERVER, "00000000") +
      reply(LIST, ACK) +
      sizes(INFO) +
      LISTED_ALL +
      reply(LIST_META_CONTEXT, ACK) +
      reply(ABORT, ACK),
    end: { kind: "close", reason: "the client ended negotiation", fault: false },
  });
});
