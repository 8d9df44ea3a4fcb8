import { describe, expect, test } from "bun:test";
import type { ExportInfo } from "../../src/protocol/export.ts";
import { encodeOption, encodeRequest } from "../support/wire.ts";
import {
  ANY_NAME,
  converse,
  DISK,
  FAULT,
  FIXED,
  hex,
  infoRequest,
  NO_ZEROES,
  reply,
  SIMPLE,
  STRUCTURED,
  transmission,
} from "./conversation.ts";

const EXPORT_NAME = 1;
const STARTTLS = 5;
const INFO = 6;
const GO = 7;
const STRUCTURED_REPLY = 8;

const ACK = 1;
const REP_INFO = 3;
const ERR_POLICY = 0x8000_0002;
const ERR_INVALID = 0x8000_0003;
const ERR_TOO_BIG = 0x8000_0009;

/** The option, and what it is answered. */
const ASK = encodeOption(STRUCTURED_REPLY);
const GRANTED = reply(STRUCTURED_REPLY, ACK);

/** NBD_INFO_EXPORT with the flags of the export, and with NBD_FLAG_SEND_DF. */
const PLAIN = "0000" + "0000000040000000" + "004d";
const WITH_DF = "0000" + "0000000040000000" + "00cd";

/** What `option` is answered when it asks for nothing but NBD_INFO_EXPORT. */
function info(option: number, exportInfo: string): string {
  return reply(option, REP_INFO, exportInfo) + reply(option, ACK);
}

test("structured replies are granted and handed over", () => {
  expect(converse(ANY_NAME, NO_ZEROES, ASK, encodeOption(GO, infoRequest("n")))).toEqual({
    output: GRANTED + info(GO, WITH_DF),
    end: transmission("n", "", STRUCTURED),
  });
});

test("structured replies are not handed over unless the client asks for them", () => {
  expect(converse(ANY_NAME, NO_ZEROES, encodeOption(GO, infoRequest("n")))).toEqual({
    output: info(GO, PLAIN),
    end: transmission("n", "", SIMPLE),
  });
});

test("structured replies last through EXPORT_NAME, and what follows is handed over", () => {
  const request = encodeRequest(0, 0, 512);
  const name = encodeOption(EXPORT_NAME, Buffer.from("n"));
  expect(converse(ANY_NAME, NO_ZEROES, ASK, name, request)).toEqual({
    output: `${GRANTED}000000004000000000cd`,
    end: transmission("n", request.toString("hex"), STRUCTURED),
  });
});

test("structured replies leave the zeroes after EXPORT_NAME where they are", () => {
  expect(converse(ANY_NAME, FIXED, ASK, encodeOption(EXPORT_NAME))).toEqual({
    output: `${GRANTED}000000004000000000cd${"00".repeat(124)}`,
    end: transmission("", "", STRUCTURED),
  });
});

test("structured replies are granted as often as they are asked for", () => {
  expect(converse(ANY_NAME, FIXED, ASK, ASK, encodeOption(GO, infoRequest("")))).toEqual({
    output: GRANTED.repeat(2) + info(GO, WITH_DF),
    end: transmission("", "", STRUCTURED),
  });
});

describe("NBD_FLAG_SEND_DF", () => {
  test("is in what INFO says after the negotiation of structured replies, not before", () => {
    const ask = encodeOption(INFO, infoRequest(""));
    expect(converse(ANY_NAME, FIXED, ask, ASK, ask)).toEqual({
      output: info(INFO, PLAIN) + GRANTED + info(INFO, WITH_DF),
      end: undefined,
    });
  });

  test("is added to whatever flags the export has, and stays with one client", () => {
    const readOnly: ExportInfo = Object.freeze({ ...ANY_NAME, flags: 0x03 });
    const { output } = converse(readOnly, FIXED, ASK, encodeOption(GO, infoRequest("")));
    expect(output).toBe(GRANTED + info(GO, "000000000000400000000083"));
    expect(converse(readOnly, FIXED, encodeOption(GO, infoRequest(""))).output).toBe(
      info(GO, "000000000000400000000003"),
    );
  });
});

describe("STRUCTURED_REPLY with data", () => {
  const wrong = encodeOption(STRUCTURED_REPLY, Buffer.from([0]));
  const refused = reply(
    STRUCTURED_REPLY,
    ERR_INVALID,
    hex("NBD_OPT_STRUCTURED_REPLY takes no data"),
  );

  test("is invalid and grants nothing, and negotiation goes on", () => {
    expect(converse(ANY_NAME, FIXED, wrong, encodeOption(GO, infoRequest("")))).toEqual({
      output: refused + info(GO, PLAIN),
      end: transmission("", "", SIMPLE),
    });
  });

  test("takes away nothing that was granted", () => {
    expect(converse(ANY_NAME, FIXED, ASK, wrong, encodeOption(GO, infoRequest("")))).toEqual({
      output: GRANTED + refused + info(GO, WITH_DF),
      end: transmission("", "", STRUCTURED),
    });
  });

  test("that is an option is not taken for one", () => {
    const nested = encodeOption(STRUCTURED_REPLY, ASK);
    expect(converse(ANY_NAME, FIXED, nested, encodeOption(GO, infoRequest(""))).end).toEqual(
      transmission("", "", SIMPLE),
    );
  });

  test("that is too long to look at grants nothing", () => {
    const long = encodeOption(STRUCTURED_REPLY, Buffer.alloc(16 * 1024 + 1));
    expect(converse(ANY_NAME, FIXED, long, encodeOption(GO, infoRequest("")))).toEqual({
      output:
        reply(STRUCTURED_REPLY, ERR_TOO_BIG, hex("the option's data is too long")) +
        info(GO, PLAIN),
      end: transmission("", "", SIMPLE),
    });
  });
});

test("TLS that is refused takes away nothing that was granted", () => {
  const options = [ASK, encodeOption(STARTTLS), encodeOption(GO, infoRequest(""))];
  expect(converse(ANY_NAME, FIXED, ...options)).toEqual({
    output:
      GRANTED +
      reply(STARTTLS, ERR_POLICY, hex("TLS is not enabled on this server")) +
      info(GO, WITH_DF),
    end: transmission("", "", STRUCTURED),
  });
});

test("another export is refused with structured replies as without", () => {
  const name = encodeOption(EXPORT_NAME, Buffer.from("disc"));
  expect(converse(DISK, FIXED, ASK, name)).toEqual({ output: GRANTED, end: FAULT });
});
