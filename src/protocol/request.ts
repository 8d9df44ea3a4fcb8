/** The request header of the transmission phase (doc/proto.md, "Request message"). */
import {
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_WRITE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_EXTENDED_REQUEST_SIZE,
  NBD_REQUEST_MAGIC,
  NBD_REQUEST_SIZE,
} from "./constants.ts";
import { BLOCK_SIZE } from "./export.ts";
import { type Offset, readOffset, writeOffset } from "./offset.ts";

/** A decoded request header; one object is reused for all requests of a connection. */
export class Request {
  /** `NBD_CMD_FLAG_*` bits, without the NBD_CMD_FLAG_PAYLOAD_LEN of an extended WRITE. */
  flags = 0;
  /** `NBD_CMD_*`. */
  type = 0;
  /** The client's cookie, in two halves: it is opaque, and the reply repeats it. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes from the start of the export. */
  offset: Offset = 0;
  /** Bytes of the export: at most 2^32 - 1 in a compact header, 2^64 - 1 in an extended one. */
  length: Offset = 0;
  /** Bytes that follow the header; for a WRITE, the same as {@link length}. */
  payload = 0;

  /** @param extended NBD_OPT_EXTENDED_HEADERS was negotiated */
  constructor(readonly extended = false) {}

  /** In bytes. */
  get headerSize(): number {
    return this.extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
  }

  /**
   * Decodes the {@link headerSize} bytes at `at`.
   *
   * @returns false when the connection must be closed: the magic is wrong, so the client is out of step
   *   or no NBD client; or the payload is larger than a client may send
   */
  decode(view: DataView, at: number): boolean {
    if (this.extended) return this.#decodeExtended(view, at);
    if (view.getUint32(at) !== NBD_REQUEST_MAGIC) return false;
    this.#decodeStart(view, at);
    const length = view.getUint32(at + 24);
    this.length = length;
    this.payload = this.type === NBD_CMD_WRITE ? length : 0;
    return true;
  }

  #decodeExtended(view: DataView, at: number): boolean {
    if (view.getUint32(at) !== NBD_EXTENDED_REQUEST_MAGIC) return false;
    this.#decodeStart(view, at);
    this.length = readOffset(view, at + 24);
    this.payload = 0;
    if (this.type === NBD_CMD_WRITE) {
      // A client "MUST use the flag", but qemu's (as of 10.0) sends the payload without it, and qemu's
      // server accepts that.
      this.flags &= ~NBD_CMD_FLAG_PAYLOAD_LEN;
    } else if ((this.flags & NBD_CMD_FLAG_PAYLOAD_LEN) === 0) {
      return true;
    }
    // "A server SHOULD initiate hard disconnect" for a larger payload.
    if (this.length > BLOCK_SIZE.maximum) return false;
    this.payload = Number(this.length);
    return true;
  }

  /** Decodes the fields that both forms have in the same place. */
  #decodeStart(view: DataView, at: number): void {
    this.flags = view.getUint16(at + 4);
    this.type = view.getUint16(at + 6);
    this.cookieHigh = view.getUint32(at + 8);
    this.cookieLow = view.getUint32(at + 12);
    this.offset = readOffset(view, at + 16);
  }
}

/**
 * Encodes a request with a compact header, as a client sends it.
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
