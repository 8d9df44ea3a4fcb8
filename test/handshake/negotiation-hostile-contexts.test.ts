import { describe, expect, test } from "bun:test";
import { encodeOption } from "../support/wire.ts";
import {
  ALLOCATION,
  ANY_NAME,
  converse,
  FAULT,
  FIXED,
  hex,
  infoRequest,
  metaContextRequest,
  optionHeader,
  reply,
  STRUCTURED,
  transmission,
  u32,
} from "./conversation.ts";

const GO = 7;
const STRUCTURED_REPLY = 8;
const LIST = 9;
const SET = 10;

const ACK = 1;
const REP_INFO = 3;
const META_CONTEXT = 4;
const ERR_INVALID = 0x8000_0003;
const ERR_TOO_BIG = 0x8000_0009;

const LONGEST_DATA = 16 * 1024;
const LONGEST_SKIPPED = 1024 * 1024;

const CONTEXT = "base:allocation";
const QUERY = u32(CONTEXT.length) + hex(CONTEXT);

const ASK = encodeOption(STRUCTURED_REPLY);
const GRANTED = reply(STRUCTURED_REPLY, ACK);

/** The number under which the option gives the context. */
const NUMBER = new Map([
  [LIST, "00000000"],
  [SET, "00000001"],
]);

describe.each([
  ["LIST_META_CONTEXT", LIST],
  ["SET_META_CONTEXT", SET],
])("%s", (_, option) => {
  const good = encodeOption(option, metaContextRequest("disk", [CONTEXT]));
  const found = reply(option, META_CONTEXT, NUMBER.get(option) + hex(CONTEXT)) + reply(option, ACK);
  const go = encodeOption(GO, infoRequest("disk"));
  const gone = reply(GO, REP_INFO, "0000000000004000000000cd") + reply(GO, ACK);

  const data = (text: string): Buffer => Buffer.from(text, "hex");
  const malformed: [string, Buffer][] = [
    ["no data", data("")],
    ["a byte", data("00")],
    ["a name and no number of queries", data(u32(0))],
    ["a name and half a number of queries", data(`${u32(0)}0000`)],
    ["a name that is longer than the data", data(`${u32(9)}${hex("disk")}${u32(0)}`)],
    ["a name that reaches into the number", data(`${u32(5)}${hex("disk")}${u32(0)}`)],
    ["a name that is all there is", data(`${u32(8)}${hex("disk")}${u32(0)}`)],
    ["a name of 2^31 bytes", data(`${u32(2 ** 31)}${hex("disk")}${u32(0)}`)],
    ["a name of 2^32 - 1 bytes", data(`${u32(2 ** 32 - 1)}${u32(0)}`)],
    ["a name of 2^32 - 4 bytes", data(`${u32(2 ** 32 - 4)}${hex("disk")}${u32(0)}`)],
    ["a name of 2^32 - 8 bytes", data(`${u32(2 ** 32 - 8)}${hex("disk")}${u32(0)}`)],
    ["a query too few", data(`${u32(0)}${u32(2)}${QUERY}`)],
    ["a query too many", data(`${u32(0)}${u32(1)}${QUERY}${QUERY}`)],
    ["a query that is not counted", data(`${u32(0)}${u32(0)}${QUERY}`)],
    ["2^30 queries", data(`${u32(0)}${u32(2 ** 30)}${QUERY}`)],
    ["2^31 queries", data(`${u32(0)}${u32(2 ** 31)}${QUERY}`)],
    ["2^32 - 1 queries", data(`${u32(0)}${u32(2 ** 32 - 1)}${QUERY}`)],
    ["2^32 - 1 queries and nothing else", data(`${u32(0)}${u32(2 ** 32 - 1)}`)],
    ["half a length of a query", data(`${u32(0)}${u32(1)}0000`)],
    ["a query that is a byte too long", data(`${u32(0)}${u32(1)}${u32(4)}${hex("a:b")}`)],
    ["a query that is a byte too short", data(`${u32(0)}${u32(1)}${u32(2)}${hex("a:b")}`)],
    ["a query of 2^31 bytes", data(`${u32(0)}${u32(1)}${u32(2 ** 31)}${hex("a:b")}`)],
    ["a query of 2^32 - 1 bytes", data(`${u32(0)}${u32(1)}${u32(2 ** 32 - 1)}${hex("a:b")}`)],
    ["a query of 2^32 - 4 bytes", data(`${u32(0)}${u32(1)}${u32(2 ** 32 - 4)}${hex("a:b")}`)],
    ["a second query that is not there", data(`${u32(0)}${u32(2)}${QUERY}${u32(2 ** 32 - 15)}`)],
    ["a byte too many", data(`${u32(0)}${u32(1)}${QUERY}00`)],
    ["a NUL in the name", metaContextRequest("di\0sk", [CONTEXT])],
    ["a NUL after the query", metaContextRequest("", [`${CONTEXT}\0`])],
    ["a NUL in a query of an unknown namespace", metaContextRequest("", [CONTEXT, "x-a:\0"])],
    ["a name that is no UTF-8", metaContextRequest(data("6469ff6b"), [CONTEXT])],
    ["a query that is no UTF-8", metaContextRequest("", [CONTEXT, data("783aff")])],
    ["a query that ends within a character", metaContextRequest("", [data("783ae282")])],
    ["a name of 4097 bytes", metaContextRequest("n".repeat(4097), [CONTEXT])],
    ["a query of 4097 bytes", metaContextRequest("", [CONTEXT, `x:${"n".repeat(4095)}`])],
  ];

  test.each(malformed)("with %s is invalid, and negotiation goes on", (_what, wrong) => {
    const { output, end } = converse(ANY_NAME, FIXED, ASK, encodeOption(option, wrong), good);
    const invalid = reply(option, ERR_INVALID, hex("malformed request for metadata contexts"));
    expect(output).toBe(GRANTED + invalid + found);
    expect(end).toBeUndefined();
  });

  test.each(malformed)("with %s selects nothing", (_what, wrong) => {
    const { end } = converse(ANY_NAME, FIXED, ASK, encodeOption(option, wrong), go);
    expect(end).toEqual(transmission("disk", "", STRUCTURED));
  });

  test("takes a name and a query of 4096 bytes", () => {
    const longest = metaContextRequest("ä".repeat(2048), [`x:${"n".repeat(4094)}`, CONTEXT]);
    const { output } = converse(ANY_NAME, FIXED, ASK, encodeOption(option, longest));
    expect(output).toBe(GRANTED + found);
  });

  test("takes as many queries as its data may hold", () => {
    const count = (LONGEST_DATA - 8 - QUERY.length / 2) / 4;
    const queries = Array.from({ length: Math.floor(count) }, () => "");
    const most = metaContextRequest("", [...queries, CONTEXT]);
    expect(most.length).toBeGreaterThan(LONGEST_DATA - 4);
    expect(converse(ANY_NAME, FIXED, ASK, encodeOption(option, most)).output).toBe(GRANTED + found);
  });

  test.each([LONGEST_DATA + 1, LONGEST_SKIPPED])(
    "with %d bytes is too big and selects nothing, and negotiation goes on",
    (length) => {
      const queries = Array.from({ length: Math.ceil(length / 19) }, () => CONTEXT);
      const big = metaContextRequest("disk", queries).subarray(0, length);
      const { output, end } = converse(ANY_NAME, FIXED, ASK, encodeOption(option, big), go);
      expect(output).toBe(
        GRANTED + reply(option, ERR_TOO_BIG, hex("the option's data is too long")) + gone,
      );
      expect(end).toEqual(transmission("disk", "", STRUCTURED));
    },
  );

  test("with more than 1 MiB ends the connection before the first byte of it", () => {
    expect(converse(ANY_NAME, FIXED, ASK, optionHeader(option, LONGEST_SKIPPED + 1))).toEqual({
      output: GRANTED,
      end: FAULT,
    });
  });
});

test("nothing comes of a selection that is not there yet", () => {
  const set = encodeOption(SET, metaContextRequest("disk", [CONTEXT]));
  for (let length = 0; length < set.length; length++) {
    expect(converse(ANY_NAME, FIXED, ASK, set.subarray(0, length))).toEqual({
      output: GRANTED,
      end: undefined,
    });
  }
});

test("selections count as any other options", () => {
  const set = encodeOption(SET, metaContextRequest("", [CONTEXT]));
  const selected = reply(SET, META_CONTEXT, `00000001${hex(CONTEXT)}`) + reply(SET, ACK);
  const options = Buffer.concat(Array.from({ length: 126 }, () => set));
  const go = encodeOption(GO, infoRequest(""));
  const { output, end } = converse(ANY_NAME, FIXED, ASK, options, go);
  expect(output).toStartWith(GRANTED + selected.repeat(126));
  expect(end).toEqual(transmission("", "", ALLOCATION));
  expect(converse(ANY_NAME, FIXED, ASK, options, set, go).end).toEqual(FAULT);
});
