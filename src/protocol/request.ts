/** The request header of the transmission phase (doc/proto.md, "Request message"). */
import { NBD_REQUEST_MAGIC, NBD_REQUEST_SIZE } from "./constants.ts";
import { type Offset, readOffset, writeOffset } from "./offset.ts";

/** A decoded request header; one object is filled again for every request of a connection. */
export class Request {
  /** `NBD_CMD_FLAG_*` bits. */
  flags = 0;
  /** `NBD_CMD_*`. */
  type = 0;
  /** The client's cookie, in two halves: it is opaque and goes back as it came. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes from the start of the export. */
  offset: Offset = 0;
  /** Bytes, at most 2^32 - 1. */
  length = 0;

  /**
   * Decodes the 28 bytes at `at`.
   *
   * @returns false when they do not start with the request magic: the client is out of step or
   *   speaks something else, and nothing after this can be trusted
   */
  decode(view: DataView, at: number): boolean {
    if (view.getUint32(at) !== NBD_REQUEST_MAGIC) return false;
    this.flags = view.getUint16(at + 4);
    this.type = view.getUint16(at + 6);
    this.cookieHigh = view.getUint32(at + 8);
    this.cookieLow = view.getUint32(at + 12);
    this.offset = readOffset(view, at + 16);
    this.length = view.getUint32(at + 24);
    return true;
  }
}

/**
 * The 28 bytes of a request's header, as a client sends them.
 *
 * @param type `NBD_CMD_*`
 * @param length bytes, at most 2^32 - 1
 * @param cookie at most 2^32 - 1
 */
export function encodeRequest(
  type: number,
  offset: Offset,
  length: number,
  cookie: number,
): Uint8Array {
  const bytes = new Uint8Array(NBD_REQUEST_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, NBD_REQUEST_MAGIC);
  view.setUint16(6, type);
  view.setUint32(12, cookie);
  writeOffset(view, 16, offset);
  view.setUint32(24, length);
  return bytes;
}
