/** The simple reply of the transmission phase (doc/proto.md, "Simple reply message"). */
import { NBD_SIMPLE_REPLY_MAGIC } from "./constants.ts";

/** Writes the 16 bytes of a simple reply at `at`. @param error an `NBD_E*` value or NBD_OK */
export function encodeSimpleReply(
  view: DataView,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  view.setUint32(at, NBD_SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
}
