/** Encoding of the server's messages during negotiation (doc/proto.md, "Newstyle negotiation"). */
import {
  IHAVEOPT,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_MAX_STRING,
  NBD_REP_INFO,
  NBD_REP_MAGIC,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
  NBDMAGIC,
} from "../protocol/constants.ts";
import { BLOCK_SIZE, type ExportInfo } from "../protocol/export.ts";

/** The greeting: both magic numbers and the handshake flags, 18 bytes. */
export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(NBDMAGIC, 0);
  bytes.writeBigUInt64BE(IHAVEOPT, 8);
  bytes.writeUInt16BE(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 16);
  return bytes;
}

/** An option reply: magic, the option it answers, its type (`NBD_REP_*`), its data. */
export function encodeOptionReply(option: number, type: number, data: Uint8Array): Buffer {
  const bytes = Buffer.alloc(20 + data.length);
  bytes.writeBigUInt64BE(NBD_REP_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.length, 16);
  bytes.set(data, 20);
  return bytes;
}

/** The text of an error reply, cut at a character to the longest string that the protocol allows. */
export function encodeText(text: string): Uint8Array {
  const bytes = new Uint8Array(NBD_MAX_STRING);
  return bytes.subarray(0, new TextEncoder().encodeInto(text, bytes).written);
}

/** NBD_REP_SERVER: one export name for NBD_OPT_LIST. */
export function encodeServer(option: number, name: string): Buffer {
  const text = Buffer.from(name);
  const data = Buffer.alloc(4 + text.length);
  data.writeUInt32BE(text.length, 0);
  data.set(text, 4);
  return encodeOptionReply(option, NBD_REP_SERVER, data);
}

/** NBD_INFO_EXPORT: size and transmission flags. */
export function encodeInfoExport(option: number, info: ExportInfo): Buffer {
  const data = Buffer.alloc(12);
  data.writeUInt16BE(NBD_INFO_EXPORT, 0);
  data.writeBigUInt64BE(BigInt(info.size), 2);
  data.writeUInt16BE(info.flags, 10);
  return encodeOptionReply(option, NBD_REP_INFO, data);
}

/** NBD_INFO_BLOCK_SIZE: minimum, preferred and maximum block size. */
export function encodeInfoBlockSize(option: number): Buffer {
  const data = Buffer.alloc(14);
  data.writeUInt16BE(NBD_INFO_BLOCK_SIZE, 0);
  data.writeUInt32BE(BLOCK_SIZE.minimum, 2);
  data.writeUInt32BE(BLOCK_SIZE.preferred, 6);
  data.writeUInt32BE(BLOCK_SIZE.maximum, 10);
  return encodeOptionReply(option, NBD_REP_INFO, data);
}

/** NBD_INFO_NAME or NBD_INFO_DESCRIPTION. */
export function encodeInfoText(option: number, type: number, text: string): Buffer {
  const value = Buffer.from(text);
  const data = Buffer.alloc(2 + value.length);
  data.writeUInt16BE(type, 0);
  data.set(value, 2);
  return encodeOptionReply(option, NBD_REP_INFO, data);
}

/** NBD_REP_META_CONTEXT: one metadata context. */
export function encodeMetaContext(option: number, id: number, name: string): Buffer {
  const text = Buffer.from(name);
  const data = Buffer.alloc(4 + text.length);
  data.writeUInt32BE(id, 0);
  data.set(text, 4);
  return encodeOptionReply(option, NBD_REP_META_CONTEXT, data);
}

/** The reply to NBD_OPT_EXPORT_NAME, which is no option reply. @param padding appends 124 zeroes */
export function encodeExportNameReply(info: ExportInfo, padding: boolean): Buffer {
  const bytes = Buffer.alloc(padding ? 134 : 10);
  bytes.writeBigUInt64BE(BigInt(info.size), 0);
  bytes.writeUInt16BE(info.flags, 8);
  return bytes;
}
