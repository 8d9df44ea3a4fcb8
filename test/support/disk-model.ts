/** What a stream that is held back should be, worked out the plain way: a byte array. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../src/protocol/constants.ts";

const OK = 0;
const EINVAL = 22;
const ENOSPC = 28;
const ENOTSUP = 95;

/** A READ of more bytes is refused. */
const LARGEST_READ = 32 << 20;

/** A request, its payload apart. */
export interface DiskRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
}

export class DiskModel {
  /** Whole sectors. */
  readonly disk: Uint8Array;
  /** Where the last WRITE or WRITE_ZEROES ends. */
  end = 0;
  /** A WRITE or WRITE_ZEROES was refused. */
  refused = false;

  constructor(
    readonly size: number,
    /** What the spool's file system can do. */
    readonly punches = true,
    readonly zeroesInPlace = true,
  ) {
    this.disk = new Uint8Array(Math.ceil(size / 512) * 512);
  }

  /** @param form what the client has negotiated @returns the error that the client gets, or the bytes that it reads */
  ask(
    request: DiskRequest,
    payload: Uint8Array,
    form: { readonly structured: boolean; readonly allocation: boolean },
  ): number | Uint8Array {
    const { type, flags, offset, length } = request;
    const only = (allowed: number) => (flags & ~(allowed | NBD_CMD_FLAG_FUA)) === 0;
    const isInside = offset + length <= this.disk.length;
    switch (type) {
      case NBD_CMD_WRITE:
        if (!only(0)) return this.#refuse(EINVAL, length);
        return isInside ? this.#write(offset, payload) : this.#refuse(ENOSPC, length);
      case NBD_CMD_WRITE_ZEROES: {
        const fast = this.punches ? NBD_CMD_FLAG_FAST_ZERO : 0;
        if (!only(NBD_CMD_FLAG_NO_HOLE | fast)) return this.#refuse(EINVAL, length);
        if (!isInside) return this.#refuse(ENOSPC, length);
        const isSlow = (flags & NBD_CMD_FLAG_NO_HOLE) !== 0 && !this.zeroesInPlace;
        if (length > 0 && isSlow && (flags & NBD_CMD_FLAG_FAST_ZERO) !== 0) return ENOTSUP;
        this.disk.fill(0, offset, offset + length);
        this.#lengthen(offset, length);
        return OK;
      }
      case NBD_CMD_TRIM:
        if (!this.punches || !only(0) || !isInside) return EINVAL;
        this.disk.fill(0, offset, offset + length);
        return OK;
      case NBD_CMD_READ:
        if (!only(form.structured ? NBD_CMD_FLAG_DF : 0)) return EINVAL;
        if (!isInside || length > LARGEST_READ) return EINVAL;
        return this.disk.slice(offset, offset + length);
      case NBD_CMD_FLUSH:
        return only(0) ? OK : EINVAL;
      case NBD_CMD_BLOCK_STATUS:
        return form.allocation && only(NBD_CMD_FLAG_REQ_ONE) && isInside && length > 0
          ? OK
          : EINVAL;
      default:
        return EINVAL;
    }
  }

  /** All that comes out. @param pad it is as long as the disk, whatever was written */
  output(pad: boolean): Uint8Array {
    return this.disk.subarray(0, pad ? this.size : this.end);
  }

  #write(offset: number, data: Uint8Array): number {
    const inside = data.subarray(0, Math.max(0, this.size - offset));
    this.disk.set(inside, offset);
    if (data.subarray(inside.length).some((byte) => byte !== 0)) {
      return this.#refuse(ENOSPC, data.length);
    }
    this.#lengthen(offset, data.length);
    return OK;
  }

  #lengthen(offset: number, length: number): void {
    if (length > 0) this.end = Math.max(this.end, Math.min(this.size, offset + length));
  }

  #refuse(error: number, length: number): number {
    this.refused ||= length > 0;
    return error;
  }
}
