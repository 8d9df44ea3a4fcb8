/** The export: size, flags, block sizes, and what is negotiated about it. */
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from "./constants.ts";
import { type Offset, roundUp } from "./offset.ts";

/** The export that is advertised. */
export interface ExportInfo {
  /** The export name, which clients may also leave empty; undefined accepts every name. */
  readonly name: string | undefined;
  /** Advertised size in bytes. */
  readonly size: Offset;
  /** `NBD_FLAG_*` transmission flags, without NBD_FLAG_SEND_DF, which negotiation adds. */
  readonly flags: number;
  /** For NBD_INFO_DESCRIPTION. */
  readonly description: string;
}

/** The exports of a server, by name. */
export interface ExportTable {
  /** The exports for NBD_OPT_LIST. */
  readonly all: readonly ExportInfo[];
  /** The export that a client means by a name. The empty one is for the only export. */
  find(name: string): ExportInfo | undefined;
}

/** The table of a server with one export. */
export function onlyExport(info: ExportInfo): ExportTable {
  const accepts = (name: string) => info.name === undefined || name === "" || name === info.name;
  return { all: [info], find: (name) => (accepts(name) ? info : undefined) };
}

/** What client and server have agreed on. Plain data. */
export interface Negotiated {
  /** NBD_OPT_STRUCTURED_REPLY: READ and BLOCK_STATUS are answered in chunks. */
  readonly structured: boolean;
  /**
   * NBD_OPT_EXTENDED_HEADERS: requests have 32-byte headers, and all replies are chunks with 32-byte
   * headers, so `structured` is true as well.
   */
  readonly extended: boolean;
  /** NBD_OPT_SET_META_CONTEXT has selected `base:allocation`, with {@link ALLOCATION_ID}. */
  readonly allocation: boolean;
}

/** The only metadata context, and its ID. */
export const ALLOCATION_CONTEXT = "base:allocation";
export const ALLOCATION_ID = 1;

/**
 * The largest size that qemu accepts: rounded up to whole clusters it must stay below 2^63. nbdkit uses
 * the same value for unbounded disks.
 */
export const UNBOUNDED_SIZE = 2n ** 63n - 2n ** 30n;

/** qemu counts in sectors, and drops or refuses a partial last sector. */
export const SECTOR_SIZE = 512;

/**
 * Transmission flags of a stream that is written. NBD_FLAG_CAN_MULTI_CONN and NBD_FLAG_SEND_FAST_ZERO
 * are not set: with the first, nbdcopy writes from several connections at once, and so backwards; with
 * the second, qemu zeroes the whole export before it writes.
 *
 * @param flushes offers NBD_CMD_FLUSH and NBD_CMD_FLAG_FUA. They mean stable storage (doc/proto.md,
 *   "Ordering of messages and writes"), if the sink has any; pending zeroes, and data that waits in the
 *   window, get there only at the end
 */
export function writeFlags(flushes: boolean): number {
  const flush = flushes ? NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA : 0;
  return NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_WRITE_ZEROES | flush;
}

/**
 * Transmission flags of a stream that is held back until its clients are done: an ordinary disk.
 *
 * @param punches zeroes are as quick as a hole, whatever was there
 * @param oneClient clients may come back, which is not to be told from a second connection
 */
export function holdFlags(punches: boolean, oneClient: boolean): number {
  const quick = punches ? NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_FAST_ZERO : 0;
  const several = oneClient ? 0 : NBD_FLAG_CAN_MULTI_CONN;
  return writeFlags(true) | quick | several;
}

/**
 * Transmission flags of a stream that is read. NBD_FLAG_CAN_MULTI_CONN is not set: with several
 * connections, requests arrive in random order.
 */
export const READ_FLAGS = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;

/** Block size constraints, in bytes (doc/proto.md, "Size constraints"). */
export const BLOCK_SIZE = { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 } as const;

/** The size to advertise for a stream of `size` bytes, rounded up to whole sectors. */
export function advertisedSize(size: Offset): Offset {
  return roundUp(size, SECTOR_SIZE);
}
