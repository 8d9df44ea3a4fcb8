/** The state that all connections to a stream that is read share. */
import { ERRNO } from "../../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../../ffi/errno.ts";
import type { Digest } from "../../endpoint/checksum.ts";
import { EndpointError } from "../../endpoint/error.ts";
import type { Source } from "../../endpoint/sources/source.ts";
import type { Failure } from "../../messages/notice.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Request } from "../../protocol/request.ts";
import type { Counters } from "../counters.ts";
import { backwardRead, sourceEnded, sourceFailed, surplusFound } from "../failure.ts";
import { START, type StreamEvent, type Surplus } from "../messages.ts";
import { keepFromFtl } from "../no-ftl.ts";
import { type Mover, ReconnectTracker } from "../reconnect.ts";
import { History, Intake, lengthInBlock, placeInBlock } from "./intake.ts";
import { KEPT, ReadRule } from "./rule.ts";

/** The most bytes that are read behind the stream's end: the source may be endless. */
const LARGEST_SURPLUS = 64 * 1024 * 1024;

interface ReadStreamOptions {
  readonly source: Source;
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** True when the length is not known, and `size` is that of an endless stream. */
  readonly endless: boolean;
  /** Bytes behind the head that can be read again. */
  readonly window: number;
  /** Clients whose connection is lost may come back. */
  readonly reconnect: boolean;
  /** Zeroes follow a source that ends early. */
  readonly pad: boolean;
  /** A source that is longer than `size` is an error. */
  readonly exact: boolean;
  /** The end of the source counts only after {@link ReadState.processExited}. */
  readonly awaitsExit: boolean;
  readonly digest: Digest | undefined;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

/** The handler of a connection whose READ may be under way. */
export interface Reader extends Mover {
  /** True when its READ overlaps [offset, offset + length). */
  isReading(offset: Offset, length: Offset): boolean;
}

export class ReadState {
  /** Set once the stream is broken. */
  failure: Failure | undefined;
  /** The connection whose READ is under way; READs are served one by one, in the order of their arrival. */
  reader: Reader | undefined;
  readonly rule: ReadRule;
  readonly history = new History();
  readonly intake: Intake;
  /** Undefined where clients may not come back. */
  readonly reconnects: ReconnectTracker | undefined;
  protected readonly options: ReadStreamOptions;
  /** The connections that wait for their turn, in the order of their READs' arrival. */
  readonly #queue: Reader[] = [];
  /** Bytes found behind the stream's end. */
  #surplus = 0;
  /** The exit status of the source's process: "unasked" until the source has ended, "known" if not needed. */
  #exitStatus: "unasked" | "asked" | "known";
  /** "first-bytes" has been posted. */
  #begun = false;

  constructor(options: ReadStreamOptions) {
    keepFromFtl(ReadState);
    this.options = options;
    this.rule = new ReadRule(options.size, options.window);
    this.intake = new Intake(options.source, this.history);
    this.reconnects = options.reconnect ? new ReconnectTracker(options.post) : undefined;
    this.#exitStatus = options.awaitsExit ? "unasked" : "known";
  }

  /** Breaks the stream. Only the first reason counts. */
  break(failure: Failure): Failure {
    if (this.failure === undefined) {
      this.failure = failure;
      this.options.post({ type: "broken", failure });
    }
    return this.failure;
  }

  /** True when no READ of another connection is before the next one of this. */
  isNext(by: Reader): boolean {
    return this.reader === undefined && (this.#queue[0] ?? by) === by;
  }

  /** @returns true when a READ's turn has come; until then it keeps its place among the others */
  takeTurn(by: Reader): boolean {
    if (this.isNext(by)) {
      this.#queue.shift();
      return true;
    }
    if (!this.#queue.includes(by)) this.#queue.push(by);
    return false;
  }

  /**
   * Ends the connection that reads now if it began earlier and this one reads the same data: it is the same
   * client, which has come back, even if the loss is not known. A program that only looks at the start of
   * the disk is another client.
   */
  replaceReader(by: Reader, offset: Offset, length: Offset): void {
    const { reader, reconnects } = this;
    if (reconnects === undefined || reader === undefined) return;
    if (reader.channel.id >= by.channel.id) return;
    const again = offset < this.rule.head && add(offset, length) > KEPT;
    if (again || reader.isReading(offset, length)) reconnects.replace(reader);
  }

  /** A connection neither reads nor waits for its turn any more. */
  endTurn(by: Reader): void {
    if (this.reader === by) this.reader = undefined;
    const place = this.#queue.indexOf(by);
    if (place >= 0) this.#queue.splice(place, 1);
  }

  /** A client wants to read below the head what is not kept. */
  refuse(request: Request): Failure {
    const { head } = this.rule;
    return this.break(backwardRead(request, head, this.rule.windowFor(request.offset)));
  }

  /** The end of the source's bytes, as far as is known; from there, zeroes follow up to `size`. */
  get dataEnd(): Offset {
    const { size } = this.rule;
    const padded = this.options.pad && this.intake.ended && this.#exitStatus === "known";
    return padded ? min(this.intake.taken, size) : size;
  }

  /** True while the next bytes have to go through memory. */
  get usesMemory(): boolean {
    const { window, digest } = this.options;
    return window > 0 || digest !== undefined || this.intake.taken < KEPT;
  }

  /** Moves the head to `end`, if it is not there yet: clients have got, or skipped, the bytes below. */
  moveHead(end: Offset): void {
    const { head, size } = this.rule;
    const to = min(end, size);
    if (to <= head) return;
    const { counters, digest } = this.options;
    const data = min(to, this.dataEnd);
    if (data > head) {
      counters.addData(Number(subtract(data, head)));
      if (digest !== undefined) this.#digest(digest, head, data);
    }
    const zeroes = data > head ? subtract(to, data) : subtract(to, head);
    if (zeroes > 0) {
      counters.addZeroes(Number(zeroes));
      digest?.updateZeroes(Number(zeroes));
    }
    this.rule.head = to;
    this.history.trim(this.rule.reach);
  }

  #digest(digest: Digest, start: Offset, end: Offset): void {
    for (let at = start; at < end;) {
      const [place, length] = [placeInBlock(at), lengthInBlock(at, end)];
      digest.update(this.history.memoryAt(at).bytes.subarray(place, place + length));
      at = add(at, length);
    }
  }

  /**
   * The source has ended within a READ.
   *
   * @returns true when zeroes follow; false when there is something to wait for, or the stream is broken
   */
  endedEarly(): boolean {
    if (!this.#exitedWell()) return false;
    const { pad, endless, source } = this.options;
    if (pad) return true;
    const size = endless ? undefined : this.rule.size;
    this.break(sourceEnded(source.name, this.intake.taken, size));
    return false;
  }

  /** True when the stream is complete only with the source's end, and there is no surplus so far. */
  get needsEnd(): boolean {
    return this.mustConfirm && this.#surplus === 0;
  }

  /** True when the last byte may be sent only after {@link confirmEnd}. */
  get mustConfirm(): boolean {
    const { exact, awaitsExit, endless } = this.options;
    return !endless && (exact || awaitsExit);
  }

  /**
   * Finds out whether the source ends without error where the stream does, so that a client that has got all
   * of the stream can rely on it.
   *
   * @returns false when there is something to wait for, or the stream is broken
   */
  confirmEnd(): boolean {
    if (this.#surplus > 0) return this.#surplusIsFine();
    if (this.intake.ended) return this.#exitedWell();
    const n = this.intake.surplus();
    if (n === WOULD_BLOCK) return false;
    if (n > 0) this.#surplus += n;
    return this.confirmEnd();
  }

  #surplusIsFine(): boolean {
    const { exact, source } = this.options;
    if (!exact) return true;
    this.break(surplusFound(source.name, this.#surplus, this.rule.size));
    return false;
  }

  /** Reads behind the stream's end. @returns true when there is no more to find out */
  readSurplus(): boolean {
    while (!this.intake.ended) {
      if (this.#surplus > 0 && !this.#surplusIsFine()) return true;
      if (this.#surplus >= LARGEST_SURPLUS) return true;
      const n = this.intake.surplus();
      if (n === WOULD_BLOCK) return false;
      this.#surplus += n;
    }
    return true;
  }

  /** The bytes found behind the stream's end; undefined when none were. */
  get surplus(): Surplus | undefined {
    if (this.#surplus === 0) return undefined;
    return { bytes: this.#surplus, more: !this.intake.ended };
  }

  /** @returns false while the exit status of the source's process is not known, or when the stream is broken */
  #exitedWell(): boolean {
    if (this.#exitStatus === "known") return this.failure === undefined;
    if (this.#exitStatus === "unasked") this.options.post({ type: "source-ended" });
    this.#exitStatus = "asked";
    this.intake.ready = false;
    return false;
  }

  processExited(problem: string | undefined): void {
    this.#exitStatus = "known";
    this.intake.ready = true;
    if (problem !== undefined) this.break(sourceFailed(problem, this.intake.taken));
  }

  /** The source has failed, and gives no more bytes. */
  endpointFailed(error: EndpointError): void {
    const { source } = this.options;
    this.break(sourceFailed(`${source.name} failed (${error.message})`, this.intake.taken));
    source.close();
    // Wakes the connections that wait for it.
    this.intake.ready = true;
  }

  /** Another reader has taken bytes from the pipe. */
  otherReader(): never {
    const error = new SyscallError("splice", ERRNO.EIO, "somebody else reads from it, too");
    throw new EndpointError(error);
  }

  /** Bytes of [from, end) that are in memory. */
  held(from: Offset, end: Offset): number {
    const { taken } = this.intake;
    return taken > from ? Number(subtract(min(taken, end), from)) : 0;
  }

  /** Takes the next bytes into memory, as many as one call gives, but none behind the stream's end. */
  takeIn(): number {
    const { size } = this.rule;
    const n = this.intake.intoHistory(subtract(size, min(this.intake.taken, size)));
    if (!this.#begun) this.#begin();
    return n;
  }

  /** Posts the first bytes of the stream, once enough of them are there. */
  #begin(): void {
    const { taken, ended } = this.intake;
    const whole = min(START, this.rule.size);
    if (taken === 0 || (taken < whole && !ended)) return;
    this.#begun = true;
    const bytes = this.history.memoryAt(0).bytes.slice(0, Number(min(taken, whole)));
    this.options.post({ type: "first-bytes", bytes });
  }

  /** Skips bytes up to `end`, as many as one call takes. @returns the same as `Intake` */
  skip(end: Offset): number {
    const { taken } = this.intake;
    if (taken < end) {
      const n = this.usesMemory ? this.takeIn() : this.intake.skip(subtract(end, taken));
      if (n <= 0) return n;
    }
    const before = this.rule.head;
    this.moveHead(min(end, this.intake.taken));
    return Number(subtract(this.rule.head, before));
  }
}
