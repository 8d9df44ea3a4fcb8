/** The file of `spool=`: a disk without a name, for data that is not streamed yet. */
import { fstatSync } from "node:fs";
import { ERRNO } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close } from "../../ffi/fd.ts";
import {
  allocate,
  nextData,
  nextHole,
  pread,
  punchHole,
  pwrite,
  reportLostWrites,
  seekTo,
  zeroRange,
} from "../../ffi/file.ts";
import { Memory, pageSize } from "../../ffi/memory.ts";
import { EndpointError } from "../endpoint/error.ts";
import { Relay } from "../endpoint/relay.ts";
import { add, min, type Offset, subtract } from "../protocol/offset.ts";
import { placeIn } from "./blocks.ts";
import type { Counters } from "./counters.ts";
import type { SpoolHandle } from "./messages.ts";

/**
 * The most pages of a file that the kernel keeps as one (its page cache is indexed by 6 bits a level, and one
 * entry covers less than two levels). splice(2) lends the pages of a file to a pipe. To punch a hole into a part
 * of what is kept as one overwrites that part with zeroes, even where a pipe has it, so holes are punched in
 * multiples of this.
 */
const PAGES_AS_ONE = 2 ** 11;

/** Bytes after which the disk that the file takes is measured again. */
const MEASURED = 1024 * 1024;

/** Bytes that get room on the disk in one call. */
const ROOM_PER_CALL = 64 * 1024 * 1024;

/** Bytes of data that are made a hole in one call. */
const HOLE_PER_CALL = 2 ** 30;

/** The spool has failed. */
export class SpoolError extends EndpointError {}

/** Calls on the file may wait for the disk. @throws SpoolError from every method that uses the file */
export class SpoolFile {
  readonly folder: string;
  /** Its file system can make holes. */
  readonly punches: boolean;
  /** Zeroes that have room on the disk are quick. */
  readonly zeroesInPlace: boolean;
  #fd: number;
  readonly #counters: Counters;
  /** Allocated when zeroes are first written. */
  #zeroes: Memory | undefined;
  /** Allocated when a socket is first spliced into the file. */
  #relay: Relay | undefined;
  /** Bytes written since the last measurement. */
  #unmeasured = 0;
  /** A multiple of {@link #unit}, up to which everything is a hole. */
  #punched: Offset = 0;
  /** Room is given back. */
  #releases: boolean;
  readonly #unit = PAGES_AS_ONE * pageSize();

  constructor({ fd, folder, punches, zeroesInPlace }: SpoolHandle, counters: Counters) {
    this.#fd = fd;
    this.folder = folder;
    this.punches = punches;
    this.#releases = punches;
    this.zeroesInPlace = zeroesInPlace;
    this.#counters = counters;
  }

  get fd(): number {
    return this.#fd;
  }

  /** Writes bytes from memory at a position. */
  write(at: Offset, address: number, length: number): void {
    try {
      for (let done = 0; done < length;) {
        const n = pwrite(this.#fd, address + done, length - done, add(at, done));
        this.#wrote(n);
        done += n;
      }
    } catch (error) {
      throw toSpoolError(error);
    }
  }

  /**
   * Takes up to `length` bytes from a socket, without copying them into this process; {@link store} is next.
   *
   * @returns bytes taken, 0 when the socket's peer has finished, or WOULD_BLOCK
   * @throws SyscallError when the socket has failed
   */
  fill(socket: number, length: number): number {
    return (this.#relay ??= spoolCall(() => new Relay())).fill(socket, length);
  }

  /** Writes at a position what {@link fill} has taken. */
  store(at: Offset): void {
    const relay = this.#relay as Relay;
    const { held } = relay;
    spoolCall(() => relay.drainAt(this.#fd, at));
    this.#wrote(held);
  }

  #wrote(n: number): void {
    this.#counters.addStored(n);
    this.#unmeasured += n;
    if (this.#unmeasured < MEASURED) return;
    this.measure();
    this.check();
  }

  /**
   * Asks whether what was written has been lost on its way to the disk, which shows nowhere else: reading it gives
   * zeroes, or what was there before. Called before a stream is taken for complete, and now and then.
   */
  check(): void {
    spoolCall(() => reportLostWrites(this.#fd));
  }

  /** Reads [at, at + length) to a place in memory; a hole, and what is behind the end, reads as zeroes. */
  read(at: Offset, into: Memory, place: number, length: number): void {
    let done = 0;
    while (done < length) {
      const [to, rest] = [into.at(place + done), length - done];
      const n = spoolCall(() => pread(this.#fd, to, rest, add(at, done)));
      if (n === 0) break;
      done += n;
    }
    into.bytes.fill(0, place + done, place + length);
  }

  /** Makes zeroes of [at, at + length), as a hole. */
  punch(at: Offset, length: Offset): void {
    // The most that it has taken is before.
    this.remeasure();
    spoolCall(() => punchHole(this.#fd, at, length));
    this.measure();
  }

  /**
   * Makes zeroes of a part of [at, at + length), as large as is good for one turn.
   *
   * @param room the zeroes are to have room on the disk
   * @returns its length in bytes
   */
  zero(at: Offset, length: Offset, room: boolean): Offset {
    return room ? this.#zeroWithRoom(at, length) : this.#zeroWithout(at, length);
  }

  #zeroWithRoom(at: Offset, length: Offset): number {
    if (!this.zeroesInPlace && !this.punches) return this.#writeZeroes(at, length);
    const part = Number(min(length, ROOM_PER_CALL));
    spoolCall(() => {
      if (this.zeroesInPlace) return zeroRange(this.#fd, at, part);
      punchHole(this.#fd, at, part);
      allocate(this.#fd, at, part);
    });
    this.measure();
    return part;
  }

  #zeroWithout(at: Offset, length: Offset): Offset {
    const [data, until = add(at, length)] = this.dataAt(at);
    const run = min(subtract(until, at), length);
    if (!this.punches) return data ? this.#writeZeroes(at, run) : run;
    // A hole takes no time, however long it is, but may have room on the disk to give back.
    const part = data ? min(length, HOLE_PER_CALL) : run;
    this.punch(at, part);
    return part;
  }

  #writeZeroes(at: Offset, length: Offset): number {
    const zeroes = (this.#zeroes ??= new Memory(MEASURED));
    const part = Number(min(length, zeroes.length));
    this.write(at, zeroes.at(0), part);
    return part;
  }

  /** Sets the position from which a sink takes data. */
  seek(at: Offset): void {
    spoolCall(() => seekTo(this.#fd, at));
  }

  /**
   * Lets a sink take data from the file's position on.
   *
   * @param take returns bytes taken, 0 at the end of the file, or WOULD_BLOCK
   * @returns the same; never 0
   */
  give(take: (fd: number) => number): number {
    return spoolCall(() => {
      const n = take(this.#fd);
      // All of it was written once.
      if (n === 0) throw new SyscallError("splice", ERRNO.EIO);
      return n;
    });
  }

  /**
   * Whether there is data at a position, or a hole, and up to where; undefined is for ever. Zeroes that were
   * written count as data, and on some file systems a hole does, too.
   */
  dataAt(at: Offset): [data: boolean, until: Offset | undefined] {
    return spoolCall(() => {
      const data = nextData(this.#fd, at);
      if (data === undefined || data > at) return [false, data];
      return [true, nextHole(this.#fd, at)];
    });
  }

  /** Everything before `end` has been streamed: gives its room on the disk back. */
  release(end: Offset): void {
    if (!this.#releases) return;
    const until = subtract(end, placeIn(end, this.#unit));
    if (until <= this.#punched) return;
    try {
      this.punch(this.#punched, subtract(until, this.#punched));
      this.#punched = until;
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error;
      // A hole may need room, too, and nothing is lost without it.
      this.#releases = false;
    }
  }

  /** Updates the counters by the room that the file takes on the disk. */
  measure(): void {
    this.#unmeasured = 0;
    try {
      this.#counters.spooled = fstatSync(this.#fd).blocks * 512;
    } catch {
      // Only a figure is missing. A disk that fails shows where the data is concerned.
    }
  }

  /** Does so if the file has been written since the last time. */
  remeasure(): void {
    if (this.#unmeasured > 0) this.measure();
  }

  close(): void {
    if (this.#fd < 0) return;
    this.measure();
    close(this.#fd);
    this.#fd = -1;
    this.#counters.spooled = 0;
    this.#relay?.close();
    this.#relay = undefined;
  }
}

/** Runs a call on the spool. @throws SpoolError in place of a SyscallError */
function spoolCall<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw toSpoolError(error);
  }
}

function toSpoolError(error: unknown): unknown {
  return error instanceof SyscallError ? new SpoolError(error) : error;
}
