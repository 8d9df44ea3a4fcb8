import { describe, expect, test } from "bun:test";
import { Negotiation } from "../../src/handshake/negotiation.ts";
import {
  NBD_OPT_ABORT as ABORT,
  NBD_OPT_EXPORT_NAME as EXPORT_NAME,
  NBD_OPT_GO as GO,
  NBD_OPT_LIST as LIST,
  NBD_OPT_SET_META_CONTEXT as SET_META_CONTEXT,
  NBD_OPT_STARTTLS as STARTTLS,
  NBD_OPT_STRUCTURED_REPLY as STRUCTURED_REPLY,
  NBD_REP_ACK as ACK,
  NBD_REP_ERR_INVALID as ERR_INVALID,
  NBD_REP_ERR_POLICY as ERR_POLICY,
  NBD_REP_INFO as REP_INFO,
  NBD_REP_META_CONTEXT as REP_META_CONTEXT,
  NBD_REP_SERVER as SERVER,
} from "../../src/protocol/constants.ts";
import { encodeOption, encodeRequest } from "../support/wire.ts";
import {
  ALLOCATION,
  ANY_NAME,
  converseInTls,
  converseUnder,
  DISK,
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
import { onlyExport } from "../../src/protocol/export.ts";

const POLICIES = ["on", "require"] as const;
const CONTEXT = "base:allocation";
const START = encodeOption(STARTTLS);
const GO_ANY = encodeOption(GO, infoRequest(""));
const ASK_STRUCTURED = encodeOption(STRUCTURED_REPLY);
const SELECT = encodeOption(SET_META_CONTEXT, metaContextRequest("", [CONTEXT]));

/** What GO is answered without and with structured replies: NBD_FLAG_SEND_DF tells them apart. */
const WENT = reply(GO, REP_INFO, "00000000000040000000004d") + reply(GO, ACK);
const WENT_STRUCTURED = reply(GO, REP_INFO, "0000000000004000000000cd") + reply(GO, ACK);
const BEGUN = { output: reply(STARTTLS, ACK), end: { kind: "starttls" } } as const;

/** The reply to a STARTTLS that comes too late. */
const AGAIN = reply(STARTTLS, ERR_INVALID, hex("TLS has begun already"));

describe("STARTTLS where TLS is off", () => {
  test.each([
    ["at first", [START]],
    ["with data", [encodeOption(STARTTLS, Buffer.from("now"))]],
  ])("%s is refused by policy, and negotiation goes on in the clear", (_, parts) => {
    expect(converseUnder("off", ANY_NAME, FIXED, ...parts, GO_ANY)).toEqual({
      output: reply(STARTTLS, ERR_POLICY, hex("TLS is not enabled on this server")) + WENT,
      end: transmission(""),
    });
  });

  test("may be followed at once by anything: what is refused begins nothing", () => {
    const rest = encodeRequest(0, 0, 512);
    const { end } = converseUnder("off", ANY_NAME, FIXED, START, START, GO_ANY, rest);
    expect(end).toEqual(transmission("", rest.toString("hex")));
  });
});

describe.each(POLICIES)("STARTTLS where TLS is %p", (policy) => {
  test("is acknowledged, and TLS begins", () => {
    expect(converseUnder(policy, ANY_NAME, FIXED, START)).toEqual(BEGUN);
  });

  test("with data is invalid, the data is consumed, and it may be asked for again", () => {
    // The data would be an option itself if it were taken for one.
    const wrong = encodeOption(STARTTLS, encodeOption(ABORT));
    const { output, end } = converseUnder(policy, ANY_NAME, FIXED, wrong, START);
    const text = hex("NBD_OPT_STARTTLS takes no data");
    expect(output).toBe(reply(STARTTLS, ERR_INVALID, text) + BEGUN.output);
    expect(end).toEqual(BEGUN.end);
  });

  test("comes of nothing before its last byte", () => {
    expect(converseUnder(policy, ANY_NAME, FIXED, START.subarray(0, 15))).toEqual({
      output: "",
      end: undefined,
    });
  });

  test("is invalid inside TLS, with data or without, and negotiation goes on", () => {
    const inside = [START, encodeOption(STARTTLS, Buffer.from("again")), START, GO_ANY];
    expect(converseInTls(policy, ANY_NAME, [FIXED, START], inside)).toEqual({
      output: AGAIN.repeat(3) + WENT,
      end: transmission(""),
    });
  });

  test("inside TLS may be followed at once by anything: it begins nothing", () => {
    const inside = [START, GO_ANY, START];
    const { end } = converseInTls(policy, ANY_NAME, [FIXED, START], inside);
    expect(end).toEqual(transmission("", START.toString("hex")));
  });

  test("leads to a negotiation that is like any other, without client flags", () => {
    const early = encodeRequest(0, 0, 512);
    const inside = [
      encodeOption(LIST),
      encodeOption(STRUCTURED_REPLY),
      encodeOption(SET_META_CONTEXT, metaContextRequest("disk", [CONTEXT])),
      encodeOption(GO, infoRequest("disk")),
      early,
    ];
    expect(converseInTls(policy, DISK, [FIXED, START], inside)).toEqual({
      output:
        reply(LIST, SERVER, `00000004${hex("disk")}`) +
        reply(LIST, ACK) +
        reply(STRUCTURED_REPLY, ACK) +
        reply(SET_META_CONTEXT, REP_META_CONTEXT, `00000001${hex(CONTEXT)}`) +
        reply(SET_META_CONTEXT, ACK) +
        WENT_STRUCTURED,
      end: transmission("disk", early.toString("hex"), ALLOCATION),
    });
  });

  test.each([
    ["without", FIXED, 124],
    ["with", NO_ZEROES, 0],
  ])("leaves the client's flags as they were: %s NBD_FLAG_C_NO_ZEROES", (_, flags, zeroes) => {
    const inside = [encodeOption(EXPORT_NAME)];
    expect(converseInTls(policy, ANY_NAME, [flags, START], inside)).toEqual({
      output: `0000000040000000004d${"00".repeat(zeroes)}`,
      end: transmission(""),
    });
  });

  test("does not give a client another 128 options", () => {
    const before = [FIXED, ...new Array<Uint8Array>(100).fill(encodeOption(99)), START];
    if (policy === "require") before.splice(1, 100, ...new Array(100).fill(encodeOption(LIST)));
    const inside = (lists: number) => new Array<Uint8Array>(lists).fill(encodeOption(LIST));
    expect(converseInTls(policy, ANY_NAME, before, inside(27)).end).toBeUndefined();
    expect(converseInTls(policy, ANY_NAME, before, inside(28)).end).toEqual(FAULT);
  });
});

describe("CVE-2021-3716: what was said before STARTTLS", () => {
  const SELECTED =
    reply(STRUCTURED_REPLY, ACK) +
    reply(SET_META_CONTEXT, REP_META_CONTEXT, `00000001${hex(CONTEXT)}`) +
    reply(SET_META_CONTEXT, ACK);

  test("grants no structured replies after it", () => {
    const clear = [FIXED, ASK_STRUCTURED, START];
    expect(converseUnder("on", ANY_NAME, ...clear).output).toStartWith(
      reply(STRUCTURED_REPLY, ACK),
    );
    expect(converseInTls("on", ANY_NAME, clear, [GO_ANY])).toEqual({
      output: WENT,
      end: transmission("", "", SIMPLE),
    });
  });

  test("selects no metadata context after it", () => {
    const clear = [FIXED, ASK_STRUCTURED, SELECT, START];
    expect(converseUnder("on", ANY_NAME, ...clear).output).toBe(SELECTED + BEGUN.output);
    expect(converseInTls("on", ANY_NAME, clear, [GO_ANY])).toEqual({
      output: WENT,
      end: transmission("", "", SIMPLE),
    });
    // Structured replies are a condition of it: they must not bring it back.
    expect(converseInTls("on", ANY_NAME, clear, [ASK_STRUCTURED, GO_ANY])).toEqual({
      output: reply(STRUCTURED_REPLY, ACK) + WENT_STRUCTURED,
      end: transmission("", "", STRUCTURED),
    });
  });

  test("is no condition for what is selected after it", () => {
    const clear = [FIXED, ASK_STRUCTURED, START];
    const { output } = converseInTls("on", ANY_NAME, clear, [SELECT]);
    expect(output).toStartWith(reply(SET_META_CONTEXT, ERR_INVALID).slice(0, 32));
  });

  test("can be said again, and then counts", () => {
    const clear = [FIXED, ASK_STRUCTURED, SELECT, START];
    expect(converseInTls("on", ANY_NAME, clear, [ASK_STRUCTURED, SELECT, GO_ANY])).toEqual({
      output: SELECTED + WENT_STRUCTURED,
      end: transmission("", "", ALLOCATION),
    });
  });

  test("outlives a STARTTLS that is refused", () => {
    const wrong = encodeOption(STARTTLS, Buffer.from("x"));
    const parts = [FIXED, ASK_STRUCTURED, SELECT, wrong, GO_ANY];
    expect(converseUnder("on", ANY_NAME, ...parts).end).toEqual(transmission("", "", ALLOCATION));
  });
});

describe.each(POLICIES)("CVE-2021-3716: with TLS %p, what comes behind STARTTLS", (policy) => {
  const before = Buffer.concat([FIXED, START]);

  test.each([
    ["an option", encodeOption(ABORT)],
    ["the options of a whole negotiation", Buffer.concat([ASK_STRUCTURED, SELECT, GO_ANY])],
    ["a part of an option", encodeOption(LIST).subarray(0, 7)],
    ["a single byte", Buffer.from([0])],
    ["what may be TLS", Buffer.from("160301", "hex")],
  ])("in the clear ends the connection, and nothing is answered: %s", (_, injected) => {
    const input = Buffer.concat([before, injected]);
    // Wherever the bytes are split, but between STARTTLS and what is behind it.
    for (let at = 0; at < input.length; at++) {
      if (at === before.length) continue;
      const negotiation = new Negotiation(onlyExport(ANY_NAME), policy);
      const first = negotiation.push(input.subarray(0, at));
      if (at < before.length) {
        expect<unknown>(first).toEqual({ output: [] });
        expect<unknown>(negotiation.push(input.subarray(at))).toEqual({
          output: [],
          outcome: FAULT,
        });
      } else {
        expect<unknown>(first).toEqual({ output: [], outcome: FAULT });
      }
      expect(() => negotiation.push(Buffer.from([0]))).toThrow();
    }
  });

  test("and after it is nothing that negotiation takes", () => {
    const negotiation = new Negotiation(onlyExport(ANY_NAME), policy);
    expect(negotiation.push(before).outcome).toEqual({ kind: "starttls" });
    expect(() => negotiation.push(encodeOption(LIST))).toThrow();
    expect(() => negotiation.push(new Uint8Array(0))).toThrow();
    negotiation.secured();
    const { output } = negotiation.push(encodeOption(LIST));
    expect(Buffer.concat(output).toString("hex")).toEndWith(reply(LIST, ACK));
  });
});

test("with TLS on, a client that does not begin it is served in the clear", () => {
  expect(converseUnder("on", ANY_NAME, FIXED, ASK_STRUCTURED, SELECT, GO_ANY).end).toEqual(
    transmission("", "", ALLOCATION),
  );
  expect(converseUnder("on", ANY_NAME, NO_ZEROES, encodeOption(EXPORT_NAME)).end).toEqual(
    transmission(""),
  );
});
