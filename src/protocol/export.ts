/** What the server tells a client about its one disk. */
import {
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from "./constants.ts";
import { type Offset, roundUp } from "./offset.ts";

/** The export as negotiation presents it. */
export interface ExportInfo {
  /** The name clients must ask for (or `""`, the default export); undefined admits every name. */
  readonly name: string | undefined;
  /** Advertised size in bytes. */
  readonly size: Offset;
  /** `NBD_FLAG_*` transmission flags; NBD_FLAG_SEND_DF is for negotiation to add. */
  readonly flags: number;
  /** For NBD_INFO_DESCRIPTION. */
  readonly description: string;
}

/** What client and server have agreed on besides the export. Plain data. */
export interface Negotiated {
  /** NBD_OPT_STRUCTURED_REPLY: READ and BLOCK_STATUS are answered in chunks. */
  readonly structured: boolean;
  /**
   * NBD_OPT_EXTENDED_HEADERS: requests have headers of 32 bytes, and everything is answered in chunks
   * with such headers, so `structured` is true as well.
   */
  readonly extended: boolean;
  /** NBD_OPT_SET_META_CONTEXT: `base:allocation`, under {@link ALLOCATION_ID}. */
  readonly allocation: boolean;
}

/** The only metadata context there is, and the number under which it is known to clients. */
export const ALLOCATION_CONTEXT = "base:allocation";
export const ALLOCATION_ID = 1;

/**
 * The largest size that qemu takes: it wants the size rounded up to whole clusters to stay below
 * 2^63. nbdkit uses the same value for disks without an end.
 */
export const UNBOUNDED_SIZE = 2n ** 63n - 2n ** 30n;

/** qemu counts disks in sectors, and drops or refuses what is not a multiple of them. */
const SECTOR_SIZE = 512;

/**
 * Transmission flags of the stream as a disk. NBD_FLAG_CAN_MULTI_CONN and NBD_FLAG_SEND_FAST_ZERO
 * stay clear: with the first, nbdcopy writes from several connections at once and so backwards; with
 * the second, qemu zeroes the whole export before it writes.
 *
 * @param flushes NBD_CMD_FLUSH and NBD_CMD_FLAG_FUA are offered. They mean stable storage
 *   (doc/proto.md, "Ordering of messages and writes"), where there is such a thing; zeroes that are
 *   pending, and data that waits in the window for its turn, get there only at the end
 */
export function writeFlags(flushes: boolean): number {
  const flush = flushes ? NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA : 0;
  return NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_WRITE_ZEROES | flush;
}

/**
 * Transmission flags of a stream that is read. NBD_FLAG_CAN_MULTI_CONN stays clear here, too: with
 * several connections the order in which requests arrive is left to chance.
 */
export const READ_FLAGS = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;

/** Block size constraints, in bytes (doc/proto.md, "Size constraints"). */
export const BLOCK_SIZE = { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 } as const;

/** The size to advertise for a stream of `size` bytes: whole sectors. */
export function advertisedSize(size: Offset): Offset {
  return roundUp(size, SECTOR_SIZE);
}
