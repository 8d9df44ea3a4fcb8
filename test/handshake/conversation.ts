/** Negotiations for tests: what a client sends, and what comes of it at every split of the bytes. */
import { expect } from "bun:test";
import type { TlsPolicy } from "../../src/handshake/haggling.ts";
import { Negotiation } from "../../src/handshake/negotiation.ts";
import {
  type ExportInfo,
  type ExportTable,
  type Negotiated,
  onlyExport,
} from "../../src/protocol/export.ts";
import { encodeOption } from "../support/wire.ts";

/** An export of 1 GiB with any name; its numbers are easy to find in hex. */
export const ANY_NAME: ExportInfo = {
  name: undefined,
  size: 0x4000_0000,
  flags: 0x4d,
  description: "a stream",
};

/** The same by one name only. */
export const DISK: ExportInfo = { ...ANY_NAME, name: "disk" };

/** Client flags: fixed newstyle; and without the zeroes after EXPORT_NAME. */
export const FIXED = Buffer.from("00000001", "hex");
export const NO_ZEROES = Buffer.from("00000003", "hex");

/** The data of INFO and GO. */
export function infoRequest(name: string | Uint8Array, infos: readonly number[] = []): Buffer {
  const text = Buffer.from(name as string);
  const data = Buffer.alloc(6 + text.length + 2 * infos.length);
  data.writeUInt32BE(text.length, 0);
  data.set(text, 4);
  data.writeUInt16BE(infos.length, 4 + text.length);
  infos.forEach((info, i) => data.writeUInt16BE(info, 6 + text.length + 2 * i));
  return data;
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaContextRequest(
  name: string | Uint8Array,
  queries: readonly (string | Uint8Array)[] = [],
): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(queries.length);
  return Buffer.concat([counted(name), count, ...queries.map(counted)]);
}

/** A string after its length of 32 bits. */
function counted(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text as string);
  return Buffer.concat([Buffer.from(u32(bytes.length), "hex"), bytes]);
}

/** An option header with a length that is not that of what follows. */
export function optionHeader(option: number, length: number): Buffer {
  const header = encodeOption(option);
  header.writeUInt32BE(length, 12);
  return header;
}

/** An option reply in hex. */
export function reply(option: number, type: number, data = ""): string {
  const length = data.length / 2;
  return ["0003e889045565a9", u32(option), u32(type), u32(length), data].join("");
}

/** The 32 bits of a number in hex. */
export function u32(value: number): string {
  return value.toString(16).padStart(8, "0");
}

/** A text in hex. */
export function hex(text: string): string {
  return Buffer.from(text).toString("hex");
}

/** How a negotiation ended, with what is left over in hex. */
export type End =
  | {
      readonly kind: "transmission";
      readonly exportName: string;
      readonly negotiated: Negotiated;
      readonly leftover: string;
    }
  | { readonly kind: "starttls" }
  | { readonly kind: "close"; readonly reason: string; readonly fault: boolean };

/** What is agreed on with clients that ask for nothing, for structured replies, and for all. */
export const SIMPLE: Negotiated = { structured: false, extended: false, allocation: false };
export const STRUCTURED: Negotiated = { ...SIMPLE, structured: true };
export const ALLOCATION: Negotiated = { ...STRUCTURED, allocation: true };
export const EXTENDED: Negotiated = { ...STRUCTURED, extended: true };

/** The end that leads to transmission. */
export function transmission(exportName: string, leftover = "", negotiated = SIMPLE): End {
  return { kind: "transmission", exportName, negotiated, leftover };
}

/** The end when the server breaks off. */
export const FAULT: End = { kind: "close", reason: expect.any(String) as never, fault: true };

/** What a negotiation came to. */
export interface Conversation {
  /** All that the server said, in hex. */
  readonly output: string;
  readonly end: End | undefined;
}

/** Pushes chunk after chunk, and treats the rest as a session would. */
function feed(negotiation: Negotiation, chunks: readonly Uint8Array[]): Conversation {
  const output: Uint8Array[] = [];
  for (const [i, chunk] of chunks.entries()) {
    const step = negotiation.push(chunk.slice());
    output.push(...step.output);
    const { outcome } = step;
    if (outcome === undefined) continue;
    const said = Buffer.concat(output).toString("hex");
    const rest = Buffer.concat(chunks.slice(i + 1)).toString("hex");
    if (outcome.kind === "starttls" && rest !== "") throw new Error(`behind STARTTLS: ${rest}`);
    if (outcome.kind !== "transmission") return { output: said, end: { ...outcome } };
    const { kind, exportName, negotiated } = outcome;
    const leftover = Buffer.from(outcome.leftover).toString("hex") + rest;
    return { output: said, end: { kind, exportName, negotiated, leftover } };
  }
  return { output: Buffer.concat(output).toString("hex"), end: undefined };
}

/**
 * Says all of `parts` to a server of `info`: in one piece, byte by byte, and split in two at every
 * position (of long inputs, at many). All ways must come to the same.
 */
export function converse(info: ExportInfo | ExportTable, ...parts: Uint8Array[]): Conversation {
  return converseUnder("off", info, ...parts);
}

/** The same to a server with this policy; where TLS begins, the conversation has to end. */
export function converseUnder(
  policy: TlsPolicy,
  info: ExportInfo | ExportTable,
  ...parts: Uint8Array[]
): Conversation {
  return atEverySplit(parts, (chunks) => feed(new Negotiation(tableOf(info), policy), chunks));
}

/** Says `clear`, which has to lead to TLS, in one piece, and then `inside` as {@link converse} does. */
export function converseInTls(
  policy: TlsPolicy,
  info: ExportInfo | ExportTable,
  clear: readonly Uint8Array[],
  inside: readonly Uint8Array[],
): Conversation {
  return atEverySplit(inside, (chunks) => {
    const negotiation = new Negotiation(tableOf(info), policy);
    expect(feed(negotiation, [Buffer.concat(clear)]).end).toEqual({ kind: "starttls" });
    negotiation.secured();
    return feed(negotiation, chunks);
  });
}

function tableOf(exports: ExportInfo | ExportTable): ExportTable {
  return "find" in exports ? exports : onlyExport(exports);
}

/** @returns what `say` comes to, which is the same at every split */
function atEverySplit(
  parts: readonly Uint8Array[],
  say: (chunks: readonly Uint8Array[]) => Conversation,
): Conversation {
  const input = Uint8Array.from(Buffer.concat(parts));
  const whole = say([input]);
  // Empty chunks change nothing either.
  const empty = new Uint8Array(0);
  const splits = [...splitPositions(input.length)];
  for (const at of splits) {
    // Behind STARTTLS there may be nothing, not even that.
    const ends = at === input.length ? [] : [empty, input.subarray(at)];
    expect(say([empty, input.subarray(0, at), ...ends])).toEqual(whole);
  }
  const pieces = splits.map((at, i) => input.subarray(i === 0 ? 0 : splits[i - 1], at));
  expect(say([...pieces, input.subarray(splits.at(-1))])).toEqual(whole);
  return whole;
}

/** Every position of short inputs; of long ones those at both ends, and some on the way. */
function* splitPositions(length: number): Generator<number> {
  const step = Math.max(1, Math.floor(length / 64));
  for (let at = 0; at <= length; at++) {
    if (length <= 512 || at < 100 || at > length - 100 || at % step === 0) yield at;
  }
}
