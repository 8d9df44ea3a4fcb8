import { describe, expect, test } from "bun:test";
import {
  NBD_OPT_ABORT as ABORT,
  NBD_OPT_EXPORT_NAME as EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS as EXTENDED_HEADERS,
  NBD_OPT_GO as GO,
  NBD_OPT_INFO as INFO,
  NBD_OPT_LIST as LIST,
  NBD_OPT_LIST_META_CONTEXT as LIST_META_CONTEXT,
  NBD_OPT_PEEK_EXPORT as PEEK_EXPORT,
  NBD_OPT_SET_META_CONTEXT as SET_META_CONTEXT,
  NBD_OPT_STARTTLS as STARTTLS,
  NBD_OPT_STRUCTURED_REPLY as STRUCTURED_REPLY,
  NBD_REP_ACK as ACK,
  NBD_REP_ERR_TLS_REQD as ERR_TLS_REQD,
} from "../../src/protocol/constants.ts";
import { encodeOption } from "../support/wire.ts";
import {
  ANY_NAME,
  converseInTls,
  converseUnder,
  DISK,
  FAULT,
  FIXED,
  hex,
  infoRequest,
  metaContextRequest,
  optionHeader,
  reply,
  transmission,
} from "./conversation.ts";

const START = encodeOption(STARTTLS);
const GO_ANY = encodeOption(GO, infoRequest(""));
const ASK_STRUCTURED = encodeOption(STRUCTURED_REPLY);
const SELECT = encodeOption(SET_META_CONTEXT, metaContextRequest("", ["base:allocation"]));
const BEGUN = { output: reply(STARTTLS, ACK), end: { kind: "starttls" } } as const;

function refused(option: number): string {
  return reply(option, ERR_TLS_REQD, hex("this server wants TLS"));
}

describe("with TLS required, before it has begun,", () => {
  const DATA = encodeOption(ABORT);

  test.each([
    ["LIST", LIST],
    ["INFO", INFO],
    ["GO", GO],
    ["STRUCTURED_REPLY", STRUCTURED_REPLY],
    ["LIST_META_CONTEXT", LIST_META_CONTEXT],
    ["SET_META_CONTEXT", SET_META_CONTEXT],
    ["EXTENDED_HEADERS", EXTENDED_HEADERS],
    ["PEEK_EXPORT", PEEK_EXPORT],
    ["option 0", 0],
    ["an unknown option", 0xffff_ffff],
  ])("%s is refused, its data is consumed, and TLS may still begin", (_, option) => {
    const parts = [encodeOption(option, DATA), encodeOption(option), START];
    expect(converseUnder("require", DISK, FIXED, ...parts)).toEqual({
      output: refused(option).repeat(2) + BEGUN.output,
      end: BEGUN.end,
    });
  });

  test("no refusal tells whether there is such an export", () => {
    const parts = ["disk", "disc", ""].map((name) => encodeOption(GO, infoRequest(name)));
    expect(converseUnder("require", DISK, FIXED, ...parts)).toEqual({
      output: refused(GO).repeat(3),
      end: undefined,
    });
  });

  test("option data that is too long is refused as any, and consumed", () => {
    const long = [optionHeader(INFO, 20_000), Buffer.alloc(20_000, encodeOption(ABORT))];
    expect(converseUnder("require", DISK, FIXED, ...long, START)).toEqual({
      output: refused(INFO) + BEGUN.output,
      end: BEGUN.end,
    });
  });

  test.each([
    ["by its name", Buffer.from("disk")],
    ["by another name", Buffer.from("disc")],
    ["the default one", Buffer.alloc(0)],
    ["by a name that is too long", Buffer.alloc(20_000, "d")],
  ])("EXPORT_NAME ends the connection without a word: %s", (_, name) => {
    const parts = [encodeOption(EXPORT_NAME, name), START];
    expect(converseUnder("require", DISK, FIXED, ...parts)).toEqual({ output: "", end: FAULT });
  });

  test("a client without fixed newstyle, which cannot begin it, is not served", () => {
    const flags = Buffer.alloc(4);
    expect(converseUnder("require", DISK, flags, encodeOption(EXPORT_NAME))).toEqual({
      output: "",
      end: FAULT,
    });
  });

  test("ABORT is acknowledged", () => {
    expect(converseUnder("require", DISK, FIXED, encodeOption(ABORT))).toEqual({
      output: reply(ABORT, ACK),
      end: { kind: "close", reason: "the client ended negotiation", fault: false },
    });
  });

  test("nothing that was refused has been agreed on", () => {
    const clear = [FIXED, ASK_STRUCTURED, SELECT, GO_ANY, START];
    expect(converseInTls("require", ANY_NAME, clear, [GO_ANY]).end).toEqual(transmission(""));
  });
});
