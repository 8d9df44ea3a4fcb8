/** NBD as bytes: what clients of the tests send, and what they take apart. */
import {
  IHAVEOPT,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_WRITE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
} from "../../src/protocol/constants.ts";

/** An option as it goes over the wire. */
export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(16 + data.length);
  bytes.writeBigUInt64BE(IHAVEOPT, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, 16);
  return bytes;
}

/** A request header as it goes over the wire. */
export function encodeRequest(
  type: number,
  offset: number | bigint,
  length: number,
  { flags = 0, cookie = 1n, magic = NBD_REQUEST_MAGIC } = {},
): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** A WRITE with its payload. */
export function encodeWrite(offset: number | bigint, payload: Uint8Array, cookie = 1n): Buffer {
  return Buffer.concat([encodeRequest(NBD_CMD_WRITE, offset, payload.length, { cookie }), payload]);
}

/** A request header of NBD_OPT_EXTENDED_HEADERS as it goes over the wire. */
export function encodeExtended(
  type: number,
  offset: number | bigint,
  length: number | bigint,
  { flags = 0, cookie = 1n, magic = NBD_EXTENDED_REQUEST_MAGIC } = {},
): Buffer {
  const bytes = Buffer.alloc(32);
  encodeRequest(type, offset, 0, { flags, cookie, magic }).copy(bytes);
  bytes.writeBigUInt64BE(BigInt(length), 24);
  return bytes;
}

/** The same of a command that has a payload. */
export function encodeWithPayload(
  type: number,
  offset: number | bigint,
  payload: Uint8Array,
  { flags = 0, cookie = 1n } = {},
): Buffer {
  flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
  const header = encodeExtended(type, offset, payload.length, { flags, cookie });
  return Buffer.concat([header, payload]);
}

/** A WRITE with its payload, and an extended header. */
export function encodeExtendedWrite(
  offset: number | bigint,
  payload: Uint8Array,
  cookie = 1n,
): Buffer {
  return encodeWithPayload(NBD_CMD_WRITE, offset, payload, { cookie });
}

/** An option reply as it came over the wire. */
export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}
