/** NBD_OPT_EXTENDED_HEADERS (doc/proto.md, "Option types"). */
import { describe, expect, test } from "bun:test";
import {
  NBD_OPT_ABORT as ABORT,
  NBD_OPT_EXPORT_NAME as EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS as EXTENDED_HEADERS,
  NBD_OPT_GO as GO,
  NBD_OPT_INFO as INFO,
  NBD_OPT_LIST as LIST,
  NBD_OPT_LIST_META_CONTEXT as LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT as SET_META_CONTEXT,
  NBD_OPT_STARTTLS as STARTTLS,
  NBD_OPT_STRUCTURED_REPLY as STRUCTURED_REPLY,
  NBD_REP_ACK as ACK,
  NBD_REP_ERR_EXT_HEADER_REQD as ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID as ERR_INVALID,
  NBD_REP_ERR_TLS_REQD as ERR_TLS_REQD,
  NBD_REP_ERR_TOO_BIG as ERR_TOO_BIG,
  NBD_REP_INFO as REP_INFO,
  NBD_REP_META_CONTEXT as REP_META_CONTEXT,
  NBD_REP_SERVER as SERVER,
} from "../../src/protocol/constants.ts";
import { type ExportInfo, UNBOUNDED_SIZE } from "../../src/protocol/export.ts";
import { encodeExtended, encodeOption } from "../support/wire.ts";
import {
  ALLOCATION,
  ANY_NAME,
  converse,
  converseInTls,
  converseUnder,
  DISK,
  EXTENDED,
  FAULT,
  FIXED,
  hex,
  infoRequest,
  metaContextRequest,
  NO_ZEROES,
  reply,
  SIMPLE,
  STRUCTURED,
  transmission,
} from "./conversation.ts";

const CONTEXT = "base:allocation";
const ASK = encodeOption(EXTENDED_HEADERS);
const GRANTED = reply(EXTENDED_HEADERS, ACK);
const ASK_STRUCTURED = encodeOption(STRUCTURED_REPLY);
const GRANTED_STRUCTURED = reply(STRUCTURED_REPLY, ACK);
const GO_ANY = encodeOption(GO, infoRequest(""));

/** What `option` is answered when it asks for NBD_INFO_EXPORT, with these flags in hex. */
function info(option: number, flags: string): string {
  const data = `0000${"0000000040000000"}${flags}`;
  return reply(option, REP_INFO, data) + reply(option, ACK);
}

/** Flags without and with NBD_FLAG_SEND_DF; NBD_FLAG_BLOCK_STAT_PAYLOAD (0x1000) is in neither. */
const PLAIN = "004d";
const WITH_DF = "00cd";

const set = (name: string) => encodeOption(SET_META_CONTEXT, metaContextRequest(name, [CONTEXT]));
const list = (name: string) => encodeOption(LIST_META_CONTEXT, metaContextRequest(name, []));
const SELECTED =
  reply(SET_META_CONTEXT, REP_META_CONTEXT, `00000001${hex(CONTEXT)}`) +
  reply(SET_META_CONTEXT, ACK);
const LISTED =
  reply(LIST_META_CONTEXT, REP_META_CONTEXT, `00000000${hex(CONTEXT)}`) +
  reply(LIST_META_CONTEXT, ACK);

test("extended headers are granted and handed over, with structured replies", () => {
  const request = encodeExtended(0, 0, 512);
  expect(converse(ANY_NAME, NO_ZEROES, ASK, GO_ANY, request)).toEqual({
    output: GRANTED + info(GO, WITH_DF),
    end: transmission("", request.toString("hex"), EXTENDED),
  });
});

test("extended headers are not handed over to who asks for structured replies only", () => {
  expect(converse(ANY_NAME, NO_ZEROES, ASK_STRUCTURED, GO_ANY).end).toEqual(
    transmission("", "", STRUCTURED),
  );
});

test("extended headers are granted as often as they are asked for", () => {
  expect(converse(ANY_NAME, FIXED, ASK, ASK, GO_ANY)).toEqual({
    output: GRANTED.repeat(2) + info(GO, WITH_DF),
    end: transmission("", "", EXTENDED),
  });
});

test("extended headers may be asked for after structured replies", () => {
  expect(converse(ANY_NAME, FIXED, ASK_STRUCTURED, ASK, GO_ANY)).toEqual({
    output: GRANTED_STRUCTURED + GRANTED + info(GO, WITH_DF),
    end: transmission("", "", EXTENDED),
  });
});

describe("STRUCTURED_REPLY behind it", () => {
  const refused = reply(
    STRUCTURED_REPLY,
    ERR_EXT_HEADER_REQD,
    hex("extended headers have been negotiated"),
  );

  test("is refused, as there is no way back, and changes nothing", () => {
    expect(converse(ANY_NAME, FIXED, ASK, ASK_STRUCTURED, ASK_STRUCTURED, GO_ANY)).toEqual({
      output: GRANTED + refused.repeat(2) + info(GO, WITH_DF),
      end: transmission("", "", EXTENDED),
    });
  });

  test("is refused as well if it was granted before", () => {
    const options = [ASK_STRUCTURED, ASK, ASK_STRUCTURED, GO_ANY];
    expect(converse(ANY_NAME, FIXED, ...options).output).toBe(
      GRANTED_STRUCTURED + GRANTED + refused + info(GO, WITH_DF),
    );
  });

  test("is invalid with data", () => {
    const wrong = encodeOption(STRUCTURED_REPLY, Buffer.from([0]));
    const text = hex("NBD_OPT_STRUCTURED_REPLY takes no data");
    expect(converse(ANY_NAME, FIXED, ASK, wrong, GO_ANY)).toEqual({
      output: GRANTED + reply(STRUCTURED_REPLY, ERR_INVALID, text) + info(GO, WITH_DF),
      end: transmission("", "", EXTENDED),
    });
  });
});

describe("EXTENDED_HEADERS with data", () => {
  const wrong = encodeOption(EXTENDED_HEADERS, Buffer.from([0]));
  const text = hex("NBD_OPT_EXTENDED_HEADERS takes no data");
  const refused = reply(EXTENDED_HEADERS, ERR_INVALID, text);

  test("is invalid and grants nothing, and negotiation goes on", () => {
    expect(converse(ANY_NAME, FIXED, wrong, GO_ANY)).toEqual({
      output: refused + info(GO, PLAIN),
      end: transmission("", "", SIMPLE),
    });
  });

  test("takes away nothing that was granted", () => {
    expect(converse(ANY_NAME, FIXED, ASK, wrong, GO_ANY)).toEqual({
      output: GRANTED + refused + info(GO, WITH_DF),
      end: transmission("", "", EXTENDED),
    });
    expect(converse(ANY_NAME, FIXED, ASK_STRUCTURED, wrong, GO_ANY).end).toEqual(
      transmission("", "", STRUCTURED),
    );
  });

  test("that is an option is not taken for one", () => {
    const nested = encodeOption(EXTENDED_HEADERS, encodeOption(ABORT));
    expect(converse(ANY_NAME, FIXED, nested, encodeOption(LIST))).toEqual({
      output: refused + reply(LIST, SERVER, "00000000") + reply(LIST, ACK),
      end: undefined,
    });
  });

  test("that is too long to look at grants nothing", () => {
    const long = encodeOption(EXTENDED_HEADERS, Buffer.alloc(16 * 1024 + 1));
    const tooBig = hex("the option's data is too long");
    expect(converse(ANY_NAME, FIXED, long, GO_ANY)).toEqual({
      output: reply(EXTENDED_HEADERS, ERR_TOO_BIG, tooBig) + info(GO, PLAIN),
      end: transmission("", "", SIMPLE),
    });
  });
});

test("INFO has the flags of extended headers after them, and not before", () => {
  const ask = encodeOption(INFO, infoRequest(""));
  expect(converse(ANY_NAME, FIXED, ask, ASK, ask).output).toBe(
    info(INFO, PLAIN) + GRANTED + info(INFO, WITH_DF),
  );
});

describe("EXPORT_NAME behind it", () => {
  const name = encodeOption(EXPORT_NAME, Buffer.from("disk"));

  test("ends the connection: a client MUST NOT use it", () => {
    expect(converse(DISK, FIXED, ASK, name)).toEqual({ output: GRANTED, end: FAULT });
    expect(converse(DISK, NO_ZEROES, ASK, encodeOption(EXPORT_NAME))).toEqual({
      output: GRANTED,
      end: FAULT,
    });
  });

  test("is as ever where they were asked for in vain", () => {
    const wrong = encodeOption(EXTENDED_HEADERS, Buffer.from([0]));
    expect(converse(DISK, NO_ZEROES, wrong, name).end).toEqual(transmission("disk"));
  });
});

describe("metadata contexts", () => {
  test("need no structured replies but these", () => {
    const { output, end } = converse(
      DISK,
      FIXED,
      ASK,
      list("disk"),
      set("disk"),
      encodeOption(GO, infoRequest("disk")),
    );
    expect(output).toBe(GRANTED + LISTED + SELECTED + info(GO, WITH_DF));
    expect(end).toEqual(transmission("disk", "", { ...EXTENDED, allocation: true }));
  });

  test("stay selected when extended headers are asked for later", () => {
    const options = [ASK_STRUCTURED, set(""), ASK, GO_ANY];
    expect(converse(ANY_NAME, FIXED, ...options).end).toEqual(
      transmission("", "", { ...EXTENDED, allocation: true }),
    );
  });
});

describe("of a disk without end", () => {
  const endless: ExportInfo = { ...ANY_NAME, size: UNBOUNDED_SIZE };
  const none = reply(LIST_META_CONTEXT, ACK) + reply(SET_META_CONTEXT, ACK);

  test("the context is there with extended headers", () => {
    const { output, end } = converse(endless, FIXED, ASK, list(""), set(""), GO_ANY);
    expect(output).toStartWith(GRANTED + LISTED + SELECTED);
    expect(end).toEqual(transmission("", "", { ...EXTENDED, allocation: true }));
  });

  test("the context is not there without them: nobody would come to the end of the map", () => {
    const { output, end } = converse(endless, FIXED, ASK_STRUCTURED, list(""), set(""), GO_ANY);
    expect(output).toStartWith(GRANTED_STRUCTURED + none);
    expect(end).toEqual(transmission("", "", STRUCTURED));
  });

  test("but for one sector, the context is there without them", () => {
    const large = { ...endless, size: UNBOUNDED_SIZE - 512n };
    const { output, end } = converse(large, FIXED, ASK_STRUCTURED, list(""), set(""), GO_ANY);
    expect(output).toStartWith(GRANTED_STRUCTURED + LISTED + SELECTED);
    expect(end).toEqual(transmission("", "", ALLOCATION));
  });
});

describe("CVE-2021-3716: extended headers before STARTTLS", () => {
  const START = encodeOption(STARTTLS);

  test("are granted no more after it, nor are the structured replies that they bring", () => {
    expect(converseInTls("on", ANY_NAME, [FIXED, ASK, set(""), START], [GO_ANY])).toEqual({
      output: info(GO, PLAIN),
      end: transmission("", "", SIMPLE),
    });
    expect(converseInTls("on", ANY_NAME, [FIXED, ASK, START], [ASK_STRUCTURED, GO_ANY])).toEqual({
      output: GRANTED_STRUCTURED + info(GO, WITH_DF),
      end: transmission("", "", STRUCTURED),
    });
    const name = encodeOption(EXPORT_NAME);
    expect(converseInTls("on", ANY_NAME, [NO_ZEROES, ASK, START], [name]).end).toEqual(
      transmission(""),
    );
  });

  test("can be asked for again, and then count", () => {
    expect(converseInTls("on", ANY_NAME, [FIXED, ASK, START], [ASK, GO_ANY])).toEqual({
      output: GRANTED + info(GO, WITH_DF),
      end: transmission("", "", EXTENDED),
    });
  });

  test("are refused where TLS is required", () => {
    const { output, end } = converseUnder("require", ANY_NAME, FIXED, ASK, encodeOption(ABORT));
    expect(output).toBe(
      reply(EXTENDED_HEADERS, ERR_TLS_REQD, hex("this server wants TLS")) + reply(ABORT, ACK),
    );
    expect(end?.kind).toBe("close");
  });
});
