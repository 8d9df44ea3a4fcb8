/** A server with several exports: each is found by its name, with its own size and flags. */
import { describe, expect, test } from "bun:test";
import { Negotiation } from "../../src/handshake/negotiation.ts";
import { READ_FLAGS, type ExportInfo, type ExportTable } from "../../src/protocol/export.ts";
import { encodeOption } from "../support/wire.ts";
import {
  ALLOCATION,
  converse,
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
  u32,
} from "./conversation.ts";

const EXPORT_NAME = 1;
const LIST = 3;
const INFO = 6;
const GO = 7;
const STRUCTURED_REPLY = 8;
const LIST_CONTEXT = 9;
const SET_CONTEXT = 10;

const ACK = 1;
const SERVER = 2;
const REP_INFO = 3;
const META_CONTEXT = 4;
const ERR_UNKNOWN = 0x8000_0006;

const CONTEXT = "base:allocation";

const VDA: ExportInfo = { name: "vda", size: 0x1000, flags: 0x4d, description: "written" };
const VDB: ExportInfo = { name: "vdb", size: 0x2_0000, flags: READ_FLAGS, description: "read" };
/** The longest name, of characters of two bytes. */
const LONG: ExportInfo = { ...VDA, name: "ä".repeat(2048), size: 0x30_0000 };

const table = (...all: ExportInfo[]): ExportTable => ({
  all,
  find: (name) => all.find((info) => info.name === name),
});
const BOTH = table(VDA, VDB);

const numbers = ({ size, flags }: ExportInfo) =>
  size.toString(16).padStart(16, "0") + flags.toString(16).padStart(4, "0");
const found = (option: number, info: ExportInfo) =>
  reply(option, REP_INFO, `0000${numbers(info)}`) + reply(option, ACK);
const listed = ({ name = "" }: ExportInfo) =>
  reply(LIST, SERVER, u32(Buffer.byteLength(name)) + hex(name));
const go = (name: string) => encodeOption(GO, infoRequest(name));
const setContext = (name: string) => encodeOption(SET_CONTEXT, metaContextRequest(name, [CONTEXT]));
const SELECTED =
  reply(SET_CONTEXT, META_CONTEXT, `00000001${hex(CONTEXT)}`) + reply(SET_CONTEXT, ACK);
const ASK = encodeOption(STRUCTURED_REPLY);
const GRANTED = reply(STRUCTURED_REPLY, ACK);

test("LIST names all exports, in their order, and then is acknowledged", () => {
  const all = table(VDA, LONG, VDB);
  const { output, end } = converse(all, FIXED, encodeOption(LIST));
  expect(output).toBe([VDA, LONG, VDB].map(listed).join("") + reply(LIST, ACK));
  expect(end).toBeUndefined();
});

test("LIST of a server whose streams are all over names none", () => {
  expect(converse(table(), FIXED, encodeOption(LIST)).output).toBe(reply(LIST, ACK));
});

describe.each([VDA, VDB, LONG])("the export $name", (info) => {
  const all = table(VDA, VDB, LONG);
  const name = info.name ?? "";

  test("is chosen by GO, with its own size and flags", () => {
    const { output, end } = converse(all, FIXED, go(name));
    expect(output).toBe(found(GO, info));
    expect(end).toEqual(transmission(name));
  });

  test("is described by INFO, which chooses nothing", () => {
    const { output, end } = converse(all, FIXED, encodeOption(INFO, infoRequest(name)));
    expect(output).toBe(found(INFO, info));
    expect(end).toBeUndefined();
  });

  test("is chosen by EXPORT_NAME, with its own size and flags", () => {
    const option = encodeOption(EXPORT_NAME, Buffer.from(name));
    expect(converse(all, NO_ZEROES, option)).toEqual({
      output: numbers(info),
      end: transmission(name),
    });
  });

  test("is told of by its canonical name and its own description", () => {
    const { output } = converse(all, FIXED, encodeOption(INFO, infoRequest(name, [1, 2])));
    expect(output).toBe(
      reply(INFO, REP_INFO, `0000${numbers(info)}`) +
        reply(INFO, REP_INFO, `0001${hex(name)}`) +
        reply(INFO, REP_INFO, `0002${hex(info.description)}`) +
        reply(INFO, ACK),
    );
  });

  test("has the context that is selected for it", () => {
    const { output, end } = converse(all, FIXED, ASK, setContext(name), go(name));
    expect(output.startsWith(GRANTED + SELECTED)).toBeTrue();
    expect(end).toEqual(transmission(name, "", ALLOCATION));
  });
});

describe.each(["", "vd", "vdaa", "VDA", "vda ", "/vda"])("the name %p", (name) => {
  const TEXT = 'there are "vda", "vdb"';

  test.each([
    ["GO", GO],
    ["INFO", INFO],
  ])("is refused by %s with the names that there are", (_, option) => {
    const { output, end } = converse(BOTH, FIXED, encodeOption(option, infoRequest(name)));
    expect(output).toBe(reply(option, ERR_UNKNOWN, hex(TEXT)));
    expect(end).toBeUndefined();
  });

  test.each([
    ["LIST_META_CONTEXT", LIST_CONTEXT],
    ["SET_META_CONTEXT", SET_CONTEXT],
  ])("is refused by %s with the names that there are", (_, option) => {
    const data = metaContextRequest(name, [CONTEXT]);
    const { output } = converse(BOTH, FIXED, ASK, encodeOption(option, data));
    expect(output).toBe(GRANTED + reply(option, ERR_UNKNOWN, hex(TEXT)));
  });

  test("breaks EXPORT_NAME off, which has no error reply", () => {
    const option = encodeOption(EXPORT_NAME, Buffer.from(name));
    expect(converse(BOTH, FIXED, option)).toEqual({ output: "", end: FAULT });
  });

  test("leaves the client to choose another one", () => {
    const { end } = converse(BOTH, FIXED, go(name), go("vdb"));
    expect(end).toEqual(transmission("vdb"));
  });
});

test("the names that there are fit into one string, however many and long they are", () => {
  const names = Array.from({ length: 100 }, (_, i) => ({
    ...LONG,
    name: `${i}${"ü".repeat(100)}`,
  }));
  const { output } = converse(table(...names), FIXED, go("none"));
  const text = Buffer.from(output, "hex").subarray(20);
  expect(text.length).toBeLessThanOrEqual(4096);
  expect(text.length).toBeGreaterThan(4000);
  // It is cut between two characters.
  expect(() => new TextDecoder("utf-8", { fatal: true }).decode(text)).not.toThrow();
});

test("where all streams are over, a client is told that", () => {
  const { output } = converse(table(), FIXED, go("vda"));
  expect(output).toBe(reply(GO, ERR_UNKNOWN, hex("all streams are over")));
});

test("a context that is set for one export does not hold for another", () => {
  const { end } = converse(BOTH, FIXED, ASK, setContext("vda"), go("vdb"));
  expect(end).toEqual(transmission("vdb", "", STRUCTURED));
});

test("a context that is set for another export replaces the first", () => {
  const words = [ASK, setContext("vda"), setContext("vdb")];
  expect(converse(BOTH, FIXED, ...words, go("vdb")).end).toEqual(
    transmission("vdb", "", ALLOCATION),
  );
  expect(converse(BOTH, FIXED, ...words, go("vda")).end).toEqual(
    transmission("vda", "", STRUCTURED),
  );
});

test("a context that is refused for an unknown export is selected no more", () => {
  const { end } = converse(BOTH, FIXED, ASK, setContext("vda"), setContext("none"), go("vda"));
  expect(end).toEqual(transmission("vda", "", STRUCTURED));
});

test("a stream that ends while a client negotiates is listed and chosen no more", () => {
  const all = [VDA, VDB];
  const negotiation = new Negotiation(
    { all, find: (name) => all.find((info) => info.name === name) },
    "off",
  );
  const say = (...parts: Uint8Array[]) => {
    const { output, outcome } = negotiation.push(Buffer.concat(parts));
    return { said: Buffer.concat(output).toString("hex"), outcome };
  };
  expect(say(FIXED, encodeOption(LIST)).said).toBe(listed(VDA) + listed(VDB) + reply(LIST, ACK));
  all.shift();
  expect(say(encodeOption(LIST)).said).toBe(listed(VDB) + reply(LIST, ACK));
  expect(say(go("vda")).said).toBe(reply(GO, ERR_UNKNOWN, hex('the export is called "vdb"')));
  const { outcome } = say(go("vdb"));
  expect(outcome).toMatchObject({ kind: "transmission", info: VDB, negotiated: SIMPLE });
});
