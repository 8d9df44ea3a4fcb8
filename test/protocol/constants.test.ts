import { describe, expect, test } from "bun:test";
import * as nbd from "../../src/protocol/constants.ts";

const ascii = (value: bigint) => Buffer.from(value.toString(16), "hex").toString("latin1");

test("the magics of the handshake are the texts that they stand for", () => {
  expect(ascii(nbd.NBDMAGIC)).toBe("NBDMAGIC");
  expect(ascii(nbd.IHAVEOPT)).toBe("IHAVEOPT");
});

/** The numbers that doc/proto.md gives. */
const NUMBERS: [keyof typeof nbd, number | bigint][] = [
  ["NBD_REP_MAGIC", 0x3e889045565a9n],
  ["NBD_REQUEST_MAGIC", 0x25609513],
  ["NBD_SIMPLE_REPLY_MAGIC", 0x67446698],
  ["NBD_REQUEST_SIZE", 28],
  ["NBD_EXTENDED_REQUEST_MAGIC", 0x21e41c71],
  ["NBD_EXTENDED_REQUEST_SIZE", 32],
  ["NBD_SIMPLE_REPLY_SIZE", 16],
  ["NBD_STRUCTURED_REPLY_MAGIC", 0x668e33ef],
  ["NBD_STRUCTURED_CHUNK_SIZE", 20],
  ["NBD_EXTENDED_REPLY_MAGIC", 0x6e8a278c],
  ["NBD_EXTENDED_CHUNK_SIZE", 32],
  ["NBD_REPLY_FLAG_DONE", 1],
  ["NBD_REPLY_TYPE_NONE", 0],
  ["NBD_REPLY_TYPE_OFFSET_DATA", 1],
  ["NBD_REPLY_TYPE_OFFSET_HOLE", 2],
  ["NBD_REPLY_TYPE_BLOCK_STATUS", 5],
  ["NBD_REPLY_TYPE_BLOCK_STATUS_EXT", 6],
  ["NBD_REPLY_TYPE_ERROR", 0x8001],
  ["NBD_STATE_HOLE", 1],
  ["NBD_STATE_ZERO", 2],
  ["NBD_FLAG_FIXED_NEWSTYLE", 1],
  ["NBD_FLAG_NO_ZEROES", 2],
  ["NBD_FLAG_C_FIXED_NEWSTYLE", 1],
  ["NBD_FLAG_C_NO_ZEROES", 2],
  ["NBD_FLAG_HAS_FLAGS", 0x01],
  ["NBD_FLAG_READ_ONLY", 0x02],
  ["NBD_FLAG_SEND_FLUSH", 0x04],
  ["NBD_FLAG_SEND_FUA", 0x08],
  ["NBD_FLAG_SEND_WRITE_ZEROES", 0x40],
  ["NBD_FLAG_SEND_DF", 0x80],
  ["NBD_OPT_EXPORT_NAME", 1],
  ["NBD_OPT_ABORT", 2],
  ["NBD_OPT_LIST", 3],
  ["NBD_OPT_PEEK_EXPORT", 4],
  ["NBD_OPT_STARTTLS", 5],
  ["NBD_OPT_INFO", 6],
  ["NBD_OPT_GO", 7],
  ["NBD_OPT_STRUCTURED_REPLY", 8],
  ["NBD_OPT_LIST_META_CONTEXT", 9],
  ["NBD_OPT_SET_META_CONTEXT", 10],
  ["NBD_OPT_EXTENDED_HEADERS", 11],
  ["NBD_REP_ACK", 1],
  ["NBD_REP_SERVER", 2],
  ["NBD_REP_INFO", 3],
  ["NBD_REP_META_CONTEXT", 4],
  ["NBD_REP_ERR_UNSUP", 0x8000_0001],
  ["NBD_REP_ERR_POLICY", 0x8000_0002],
  ["NBD_REP_ERR_INVALID", 0x8000_0003],
  ["NBD_REP_ERR_TLS_REQD", 0x8000_0005],
  ["NBD_REP_ERR_UNKNOWN", 0x8000_0006],
  ["NBD_REP_ERR_TOO_BIG", 0x8000_0009],
  ["NBD_REP_ERR_EXT_HEADER_REQD", 0x8000_000a],
  ["NBD_INFO_EXPORT", 0],
  ["NBD_INFO_NAME", 1],
  ["NBD_INFO_DESCRIPTION", 2],
  ["NBD_INFO_BLOCK_SIZE", 3],
  ["NBD_CMD_FLAG_FUA", 1],
  ["NBD_CMD_FLAG_NO_HOLE", 2],
  ["NBD_CMD_FLAG_DF", 4],
  ["NBD_CMD_FLAG_REQ_ONE", 8],
  ["NBD_CMD_FLAG_PAYLOAD_LEN", 32],
  ["NBD_CMD_READ", 0],
  ["NBD_CMD_WRITE", 1],
  ["NBD_CMD_DISC", 2],
  ["NBD_CMD_FLUSH", 3],
  ["NBD_CMD_TRIM", 4],
  ["NBD_CMD_WRITE_ZEROES", 6],
  ["NBD_CMD_BLOCK_STATUS", 7],
  ["NBD_OK", 0],
  ["NBD_EPERM", 1],
  ["NBD_EIO", 5],
  ["NBD_EINVAL", 22],
  ["NBD_ENOSPC", 28],
  ["NBD_ESHUTDOWN", 108],
  ["NBD_MAX_STRING", 4096],
];

test.each(NUMBERS)("%s is the specification's", (name, value) => {
  expect(nbd[name]).toBe(value as never);
});

describe("commandName", () => {
  test("gives the specification's name", () => {
    expect(nbd.commandName(1)).toBe("NBD_CMD_WRITE");
    expect(nbd.commandName(6)).toBe("NBD_CMD_WRITE_ZEROES");
    expect(nbd.commandName(7)).toBe("NBD_CMD_BLOCK_STATUS");
  });

  test("gives the number of a command that is not known", () => {
    expect(nbd.commandName(5)).toBe("command 5");
    expect(nbd.commandName(8)).toBe("command 8");
    expect(nbd.commandName(65535)).toBe("command 65535");
  });
});
