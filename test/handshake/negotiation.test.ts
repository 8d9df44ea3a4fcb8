import { describe, expect, test } from "bun:test";
import { Negotiation } from "../../src/handshake/negotiation.ts";
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
  transmission,
} from "./conversation.ts";
import { onlyExport } from "../../src/protocol/export.ts";

const EXPORT_NAME = 1;
const ABORT = 2;
const LIST = 3;
const STARTTLS = 5;
const INFO = 6;
const GO = 7;

const ACK = 1;
const SERVER = 2;
const REP_INFO = 3;
const ERR_UNSUP = 0x8000_0001;
const ERR_POLICY = 0x8000_0002;
const ERR_INVALID = 0x8000_0003;
const ERR_UNKNOWN = 0x8000_0006;

/** NBD_INFO_EXPORT of the export that all tests use. */
const EXPORT_INFO = "0000" + "0000000040000000" + "004d";
const BLOCK_SIZE_INFO = "0003" + "00000001" + "00001000" + "02000000";
const DESCRIPTION_INFO = `0002${hex("a stream")}`;

test("the greeting has both magics, fixed newstyle and no zeroes", () => {
  const greeting = new Negotiation(onlyExport(ANY_NAME), "off").greeting();
  expect(Buffer.from(greeting).toString("latin1")).toBe("NBDMAGICIHAVEOPT\x00\x03");
});

describe("EXPORT_NAME", () => {
  test("is answered with size, flags and 124 zeroes", () => {
    expect(converse(ANY_NAME, FIXED, encodeOption(EXPORT_NAME, Buffer.from("any")))).toEqual({
      output: `0000000040000000004d${"00".repeat(124)}`,
      end: transmission("any"),
    });
  });

  test("is answered without the zeroes to a client that does not want them", () => {
    expect(converse(ANY_NAME, NO_ZEROES, encodeOption(EXPORT_NAME))).toEqual({
      output: "0000000040000000004d",
      end: transmission(""),
    });
  });

  test("is served to a client that does not know fixed newstyle", () => {
    const flags = Buffer.from("00000000", "hex");
    expect(converse(ANY_NAME, flags, encodeOption(EXPORT_NAME, Buffer.from("x")))).toEqual({
      output: `0000000040000000004d${"00".repeat(124)}`,
      end: transmission("x"),
    });
  });

  test("hands over what follows exactly", () => {
    const request = encodeRequest(1, 0, 512);
    expect(converse(ANY_NAME, NO_ZEROES, encodeOption(EXPORT_NAME), request)).toEqual({
      output: "0000000040000000004d",
      end: transmission("", request.toString("hex")),
    });
  });

  test.each(["disk", ""])("of %p is served when the export is called disk", (name) => {
    const { end } = converse(DISK, NO_ZEROES, encodeOption(EXPORT_NAME, Buffer.from(name)));
    expect(end).toMatchObject(transmission(name));
  });

  test.each([
    ["another name", "disc"],
    ["a longer name", "disk2"],
    ["a name with a NUL", "disk\0"],
    ["a name that is too long", "d".repeat(4097)],
  ])("of %s ends the connection without an answer", (_, name) => {
    expect(converse(DISK, FIXED, encodeOption(EXPORT_NAME, Buffer.from(name)))).toEqual({
      output: "",
      end: FAULT,
    });
  });

  test("of bytes that are no UTF-8 ends the connection even if any name will do", () => {
    const name = Buffer.from("c328", "hex");
    expect(converse(ANY_NAME, FIXED, encodeOption(EXPORT_NAME, name))).toEqual({
      output: "",
      end: FAULT,
    });
  });
});

describe("GO", () => {
  test("is answered with the export's information and an acknowledgement", () => {
    expect(converse(ANY_NAME, FIXED, encodeOption(GO, infoRequest("")))).toEqual({
      output: reply(GO, REP_INFO, EXPORT_INFO) + reply(GO, ACK),
      end: transmission(""),
    });
  });

  test("hands over what follows exactly, whatever it is", () => {
    const early = Buffer.concat([encodeRequest(1, 0, 64), Buffer.alloc(64, 0xab)]);
    expect(converse(ANY_NAME, NO_ZEROES, encodeOption(GO, infoRequest("n")), early)).toEqual({
      output: reply(GO, REP_INFO, EXPORT_INFO) + reply(GO, ACK),
      end: transmission("n", early.toString("hex")),
    });
  });

  test("gives the size of a stream without an end exactly", () => {
    const info = { ...ANY_NAME, size: 2n ** 63n - 2n ** 30n };
    const { output } = converse(info, FIXED, encodeOption(GO, infoRequest("")));
    expect(output).toBe(reply(GO, REP_INFO, "00007fffffffc0000000004d") + reply(GO, ACK));
  });
});

describe.each([
  ["INFO", INFO],
  ["GO", GO],
])("%s", (_, option) => {
  /** All but the acknowledgement in the answer to a request for `infos`. */
  function answer(name: string, infos: number[], info = ANY_NAME): string {
    const { output } = converse(info, FIXED, encodeOption(option, infoRequest(name, infos)));
    expect(output).toEndWith(reply(option, ACK));
    return output.slice(0, -reply(option, ACK).length);
  }

  const exportInfo = reply(option, REP_INFO, EXPORT_INFO);

  test("gives block sizes only to a client that asks for them", () => {
    expect(answer("", [])).toBe(exportInfo);
    expect(answer("", [3])).toBe(exportInfo + reply(option, REP_INFO, BLOCK_SIZE_INFO));
  });

  test("gives the export's information once, asked for or not", () => {
    expect(answer("", [0, 0])).toBe(exportInfo);
  });

  test("gives name and description to a client that asks for them", () => {
    expect(answer("ä", [1])).toBe(exportInfo + reply(option, REP_INFO, `0001${hex("ä")}`));
    expect(answer("", [2])).toBe(exportInfo + reply(option, REP_INFO, DESCRIPTION_INFO));
  });

  test("gives the export's own name for the default one", () => {
    const canonical = reply(option, REP_INFO, `0001${hex("disk")}`);
    expect(answer("", [1], DISK)).toBe(exportInfo + canonical);
    expect(answer("disk", [1], DISK)).toBe(exportInfo + canonical);
  });

  test("ignores what it does not know, and repetitions", () => {
    expect(answer("", [4, 3, 0x8000, 3, 0xffff])).toBe(
      exportInfo + reply(option, REP_INFO, BLOCK_SIZE_INFO),
    );
  });

  test("of another export is an error, and negotiation goes on", () => {
    const wrong = encodeOption(option, infoRequest("disc"));
    const right = encodeOption(GO, infoRequest("disk"));
    expect(converse(DISK, FIXED, wrong, right)).toEqual({
      output:
        reply(option, ERR_UNKNOWN, hex('the export is called "disk"')) +
        reply(GO, REP_INFO, EXPORT_INFO) +
        reply(GO, ACK),
      end: transmission("disk"),
    });
  });
});

test("INFO leads to nothing but information, as often as it comes", () => {
  const info = encodeOption(INFO, infoRequest(""));
  expect(converse(ANY_NAME, FIXED, info, info)).toEqual({
    output: (reply(INFO, REP_INFO, EXPORT_INFO) + reply(INFO, ACK)).repeat(2),
    end: undefined,
  });
});

describe("LIST", () => {
  test("names the export", () => {
    expect(converse(DISK, FIXED, encodeOption(LIST))).toEqual({
      output: reply(LIST, SERVER, `00000004${hex("disk")}`) + reply(LIST, ACK),
      end: undefined,
    });
  });

  test("names the default export when any name will do", () => {
    expect(converse(ANY_NAME, FIXED, encodeOption(LIST)).output).toBe(
      reply(LIST, SERVER, "00000000") + reply(LIST, ACK),
    );
  });

  test("with data is invalid, and negotiation goes on", () => {
    const { output, end } = converse(
      DISK,
      FIXED,
      encodeOption(LIST, Buffer.from("disk")),
      encodeOption(LIST),
    );
    expect(output).toBe(
      reply(LIST, ERR_INVALID, hex("NBD_OPT_LIST takes no data")) +
        reply(LIST, SERVER, `00000004${hex("disk")}`) +
        reply(LIST, ACK),
    );
    expect(end).toBeUndefined();
  });
});

describe("ABORT", () => {
  test.each([
    ["without data", ""],
    ["with data", "whatever"],
  ])("%s is acknowledged, and the connection ends without a fault", (_, data) => {
    expect(converse(ANY_NAME, FIXED, encodeOption(ABORT, Buffer.from(data)))).toEqual({
      output: reply(ABORT, ACK),
      end: { kind: "close", reason: "the client ended negotiation", fault: false },
    });
  });

  test("leaves what follows unread", () => {
    expect(converse(ANY_NAME, FIXED, encodeOption(ABORT), encodeOption(LIST)).output).toBe(
      reply(ABORT, ACK),
    );
  });
});

test("STARTTLS is refused by policy, and negotiation goes on", () => {
  expect(
    converse(ANY_NAME, FIXED, encodeOption(STARTTLS), encodeOption(GO, infoRequest(""))),
  ).toEqual({
    output:
      reply(STARTTLS, ERR_POLICY, hex("TLS is not enabled on this server")) +
      reply(GO, REP_INFO, EXPORT_INFO) +
      reply(GO, ACK),
    end: transmission(""),
  });
});

test.each([4, 0, 12, 0xffff_ffff])(
  "option %d is not supported, its data is consumed, and negotiation goes on",
  (option) => {
    // The data would be an option itself if it were taken for one.
    const data = encodeOption(ABORT);
    expect(converse(ANY_NAME, FIXED, encodeOption(option, data), encodeOption(LIST))).toEqual({
      output:
        reply(option, ERR_UNSUP, hex("option not supported")) +
        reply(LIST, SERVER, "00000000") +
        reply(LIST, ACK),
      end: undefined,
    });
  },
);
