/** What comes out of the source, and how much of it has been taken. */
import { O_WRONLY } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable, close, open, read } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { splice } from "../../../ffi/pipe.ts";
import { endpointCall, toEndpointError } from "../../endpoint/error.ts";
import type { Source } from "../../endpoint/sources/source.ts";
import { add, min, type Offset } from "../../protocol/offset.ts";
import { BLOCK, type History, placeInBlock } from "./history.ts";

/** Bytes passed over in one call at the most. */
const DISCARDED = 1024 * 1024;

/**
 * Takes the source's bytes, in order, each once. All methods that take return the number of bytes,
 * 0 at the end of the source (`ended` is true then), or WOULD_BLOCK (`ready` is false then).
 */
export class Intake {
  /** False from the moment the source would have blocked until poll(2) says that it does not. */
  ready = false;
  /** The source has no more. */
  ended = false;
  /** Bytes taken so far: where in the stream the next one belongs. */
  taken: Offset = 0;
  readonly #source: Source;
  readonly #history: History;
  /** Bytes that are known to be in the source's pipe; nobody else takes them. */
  #known = 0;
  #nowhere = -1;
  #scrap: Memory | undefined;

  constructor(source: Source, history: History) {
    this.#source = source;
    this.#history = history;
  }

  /**
   * Bytes that can be taken without waiting: at least one.
   *
   * @param wanted more than this need not be known: to ask takes a lock that the writer wants, too
   */
  available(wanted = 1): number {
    if (this.ended) return 0;
    if (this.#known >= wanted) return this.#known;
    if (this.#source.fd < 0) return this.#settled(WOULD_BLOCK);
    const n = this.#settled(this.#source.fill());
    this.#known = Math.max(0, n);
    return n;
  }

  /** Takes into the history. @param limit bytes; fewer come at a time */
  intoHistory(limit: Offset): number {
    if (this.available() <= 0) return this.ended ? 0 : WOULD_BLOCK;
    const place = placeInBlock(this.taken);
    const length = Number(min(limit, BLOCK - place));
    return this.#took(this.#read(this.#history.room(this.taken), place, length));
  }

  /**
   * Moves up to `length` bytes, which have to be {@link available}, to a socket.
   *
   * @returns bytes moved; WOULD_BLOCK when it is the socket that takes no more now; 0 when somebody
   *   else has taken them
   * @throws SyscallError when the socket's peer is gone
   */
  intoSocket(socket: number, length: number): number {
    const n = splice(this.#source.pipe, socket, length);
    if (n > 0) this.#took(n);
    // Without it there is nothing to wait for: the socket may well be writable.
    else if (n === WOULD_BLOCK && bytesReadable(this.#source.pipe) === 0) return 0;
    return n;
  }

  /** Passes over bytes. @param limit bytes; fewer go at a time */
  intoNowhere(limit: Offset): number {
    const available = this.available();
    if (available <= 0) return available;
    if (this.#nowhere < 0) this.#nowhere = endpointCall(() => open("/dev/null", O_WRONLY));
    const length = Number(min(limit, DISCARDED));
    const n = this.#settled(endpointCall(() => splice(this.#source.pipe, this.#nowhere, length)));
    return this.#took(n);
  }

  /** Takes bytes that are behind the stream's end, and belong to nothing. */
  surplus(): number {
    const available = this.available();
    if (available <= 0) return available;
    const scrap = (this.#scrap ??= new Memory(DISCARDED));
    this.#known = 0;
    return this.#read(scrap, 0, scrap.length);
  }

  close(): void {
    if (this.#nowhere >= 0) close(this.#nowhere);
    this.#nowhere = -1;
  }

  #read(memory: Memory, place: number, length: number): number {
    try {
      return this.#settled(read(this.#source.pipe, memory.at(place), length));
    } catch (error) {
      throw toEndpointError(error);
    }
  }

  #took(n: number): number {
    if (n <= 0) return n;
    this.taken = add(this.taken, n);
    this.#known = Math.max(0, this.#known - n);
    return n;
  }

  #settled(n: number): number {
    if (n <= 0) this.#known = 0;
    if (n === 0) this.ended = true;
    else if (n === WOULD_BLOCK) this.ready = false;
    return n;
  }
}
