import { describe, expect, test } from "bun:test";
import { Negotiation } from "../../src/handshake/negotiation.ts";
import { encodeOption } from "../support/wire.ts";
import {
  ANY_NAME,
  converse,
  DISK,
  FAULT,
  FIXED,
  hex,
  infoRequest,
  NO_ZEROES,
  optionHeader,
  reply,
  transmission,
  u32,
} from "./conversation.ts";
import { onlyExport } from "../../src/protocol/export.ts";

const EXPORT_NAME = 1;
const LIST = 3;
const INFO = 6;
const GO = 7;

const ACK = 1;
const REP_INFO = 3;
const ERR_UNSUP = 0x8000_0001;
const ERR_INVALID = 0x8000_0003;
const ERR_UNKNOWN = 0x8000_0006;
const ERR_TOO_BIG = 0x8000_0009;

const KIB = 1024;
const LONGEST_DATA = 16 * KIB;
const LONGEST_SKIPPED = 1024 * KIB;

/** What a healthy server says to GO for the default export. */
const GONE_TO_TRANSMISSION = reply(GO, REP_INFO, "00000000000040000000004d") + reply(GO, ACK);

describe.each([
  ["INFO", INFO],
  ["GO", GO],
])("malformed %s", (_, option) => {
  const malformed: [string, Buffer][] = [
    ["no data", Buffer.alloc(0)],
    ["data without a count", Buffer.from("0000000000", "hex")],
    ["a name that is longer than the data", Buffer.from(`${u32(5)}${hex("disk")}0000`, "hex")],
    ["a name that reaches into the count", Buffer.from(`${u32(6)}${hex("disk")}0000`, "hex")],
    ["a name of 2^31 bytes", Buffer.from(`${u32(2 ** 31)}0000`, "hex")],
    ["a name of 2^32 - 1 bytes", Buffer.from(`${u32(2 ** 32 - 1)}0000`, "hex")],
    ["a name of 2^32 - 6 bytes", Buffer.from(`${u32(2 ** 32 - 6)}${hex("disk")}0000`, "hex")],
    ["a count without its requests", Buffer.from(`${u32(0)}0001`, "hex")],
    ["a count with half a request", Buffer.from(`${u32(0)}000100`, "hex")],
    ["a count that is too large by one", Buffer.from(`${u32(0)}000300030001`, "hex")],
    ["the largest count", Buffer.from(`${u32(0)}ffff0003`, "hex")],
    ["a byte too many", Buffer.from(`${u32(0)}000000`, "hex")],
    ["a request too many", Buffer.from(`${u32(0)}000100030003`, "hex")],
    ["a NUL at the end of the name", infoRequest("disk\0")],
    ["a NUL inside the name", infoRequest("di\0sk")],
    ["a name that is no UTF-8", infoRequest(Buffer.from("6469ff6b", "hex"))],
    ["a name that ends within a character", infoRequest(Buffer.from("6469e282", "hex"))],
    ["a name with a surrogate", infoRequest(Buffer.from("eda080", "hex"))],
    ["a name of 4097 bytes", infoRequest("n".repeat(4097))],
  ];

  test.each(malformed)("with %s is invalid, and negotiation goes on", (_what, data) => {
    expect(
      converse(ANY_NAME, FIXED, encodeOption(option, data), encodeOption(GO, infoRequest(""))),
    ).toEqual({
      output:
        reply(option, ERR_INVALID, hex("malformed request for information")) + GONE_TO_TRANSMISSION,
      end: transmission(""),
    });
  });
});

test("a name of 4096 bytes is as good as any", () => {
  const name = "ä".repeat(2048);
  expect(converse(ANY_NAME, FIXED, encodeOption(GO, infoRequest(name, [1])))).toEqual({
    output:
      reply(GO, REP_INFO, "00000000000040000000004d") +
      reply(GO, REP_INFO, `0001${hex(name)}`) +
      reply(GO, ACK),
    end: transmission(name),
  });
});

test("a byte order mark is a part of the name", () => {
  const { end } = converse(ANY_NAME, FIXED, encodeOption(GO, infoRequest("\ufeffdisk")));
  expect(end).toMatchObject({ exportName: "\ufeffdisk" });
});

describe("an error's text", () => {
  /** The text with which the server refuses a name other than `name`. */
  function textFor(name: string): Buffer {
    const { output } = converse({ ...DISK, name }, FIXED, encodeOption(GO, infoRequest("other")));
    const bytes = Buffer.from(output, "hex");
    expect(bytes.readUInt32BE(12)).toBe(ERR_UNKNOWN);
    expect(bytes.readUInt32BE(16)).toBe(bytes.length - 20);
    return bytes.subarray(20);
  }

  test("is cut to 4096 bytes", () => {
    const text = textFor("n".repeat(4096));
    expect(text.length).toBe(4096);
    expect(text.toString()).toMatch(/^the export is called "n+$/);
  });

  test.each(["ä", "€", "😀"])("is not cut in the middle of %s", (character) => {
    const width = Buffer.byteLength(character);
    const lengths = new Set<number>();
    // Shifted byte by byte, so that the border falls into the character at every place.
    for (let shift = 0; shift < width; shift++) {
      const text = textFor(
        "n".repeat(shift) + character.repeat(Math.floor((4096 - shift) / width)),
      );
      expect(text.length).toBeLessThanOrEqual(4096);
      expect(text.length).toBeGreaterThan(4096 - width);
      expect(new TextDecoder("utf-8", { fatal: true }).decode(text)).toEndWith(character);
      lengths.add(text.length);
    }
    expect(lengths.size).toBe(width);
  });
});

describe("option data", () => {
  test("of 16 KiB is looked at", () => {
    const data = Buffer.alloc(LONGEST_DATA);
    expect(converse(ANY_NAME, FIXED, encodeOption(99, data)).output).toBe(
      reply(99, ERR_UNSUP, hex("option not supported")),
    );
  });

  test.each([
    [99, LONGEST_DATA + 1],
    [GO, LONGEST_DATA + 1],
    [LIST, LONGEST_SKIPPED],
  ])("of option %d with %d bytes is too big, and negotiation goes on", (option, length) => {
    const { output, end } = converse(
      ANY_NAME,
      FIXED,
      encodeOption(option, Buffer.alloc(length, 0x49)),
      encodeOption(GO, infoRequest("")),
      Buffer.from("early"),
    );
    expect(output).toBe(
      reply(option, ERR_TOO_BIG, hex("the option's data is too long")) + GONE_TO_TRANSMISSION,
    );
    expect(end).toEqual(transmission("", hex("early")));
  });

  test("that is too big for EXPORT_NAME ends the connection", () => {
    const name = Buffer.alloc(LONGEST_DATA + 1, 0x6e);
    expect(converse(ANY_NAME, FIXED, encodeOption(EXPORT_NAME, name))).toEqual({
      output: "",
      end: FAULT,
    });
  });

  test.each([LONGEST_SKIPPED + 1, 2 ** 31, 2 ** 32 - 1])(
    "of %d bytes ends the connection before the first of them",
    (length) => {
      expect(converse(ANY_NAME, FIXED, optionHeader(99, length))).toEqual({
        output: "",
        end: FAULT,
      });
    },
  );
});

describe("the number of options", () => {
  const list = encodeOption(LIST);
  const listed = reply(LIST, 2, "00000000") + reply(LIST, ACK);

  test("may be 128", () => {
    const options = Buffer.concat(Array.from({ length: 127 }, () => list));
    expect(converse(ANY_NAME, FIXED, options, encodeOption(GO, infoRequest("")))).toEqual({
      output: listed.repeat(127) + GONE_TO_TRANSMISSION,
      end: transmission(""),
    });
  });

  test("may not be 129", () => {
    const options = Buffer.concat(Array.from({ length: 129 }, () => list));
    expect(converse(ANY_NAME, FIXED, options)).toEqual({
      output: listed.repeat(128),
      end: FAULT,
    });
  });
});

describe("the connection ends at once", () => {
  test.each(["00000004", "00000007", "80000001", "ffffffff", "47455420"])(
    "after the client flags %s",
    (flags) => {
      expect(converse(ANY_NAME, Buffer.from(flags, "hex"), encodeOption(LIST))).toEqual({
        output: "",
        end: FAULT,
      });
    },
  );

  test("after an option without its magic", () => {
    const option = encodeOption(LIST);
    option.write("IHAVEOPS", "latin1");
    expect(converse(ANY_NAME, FIXED, encodeOption(LIST), option)).toEqual({
      output: reply(LIST, 2, "00000000") + reply(LIST, ACK),
      end: FAULT,
    });
  });
});

test("nothing comes of what is not there yet", () => {
  const whole = Buffer.concat([NO_ZEROES, encodeOption(GO, infoRequest("disk", [1, 3]))]);
  for (let length = 0; length < whole.length; length++) {
    expect(converse(DISK, whole.subarray(0, length))).toEqual({ output: "", end: undefined });
  }
});

test("what has been pushed may be overwritten afterwards", () => {
  const whole = Buffer.concat([NO_ZEROES, encodeOption(EXPORT_NAME, Buffer.from("disk"))]);
  for (let at = 0; at < whole.length; at++) {
    const negotiation = new Negotiation(onlyExport(DISK), "off");
    // A Buffer, as sockets deliver it, not a plain Uint8Array.
    const chunk = Buffer.from(whole.subarray(0, at));
    negotiation.push(chunk);
    chunk.fill(0xff);
    expect(negotiation.push(whole.subarray(at)).outcome).toMatchObject({ exportName: "disk" });
  }
});

test("what is handed over may be kept while the chunk is overwritten", () => {
  const negotiation = new Negotiation(onlyExport(ANY_NAME), "off");
  const chunk = Buffer.concat([NO_ZEROES, encodeOption(EXPORT_NAME), Buffer.from("early")]);
  const { outcome } = negotiation.push(chunk);
  chunk.fill(0xff);
  if (outcome?.kind !== "transmission") throw new Error("no transmission");
  expect(Buffer.from(outcome.leftover).toString()).toBe("early");
});

test("nothing may be pushed when negotiation is over", () => {
  const negotiation = new Negotiation(onlyExport(ANY_NAME), "off");
  negotiation.push(Buffer.concat([FIXED, encodeOption(EXPORT_NAME)]));
  expect(() => negotiation.push(Buffer.alloc(1))).toThrow("negotiation is over");
});
