/**
 * Fixed newstyle negotiation (doc/proto.md, "Newstyle negotiation") as a state machine without I/O:
 * bytes in, in chunks of any length; bytes and an outcome out.
 */
import {
  IHAVEOPT,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
} from "../protocol/constants.ts";
import type { ExportTable } from "../protocol/export.ts";
import {
  Haggling,
  type NegotiationResult,
  type NegotiationStep,
  type TlsPolicy,
} from "./haggling.ts";
import { encodeGreeting } from "./option-reply.ts";

/** Longer option data is not read. The longest valid data of INFO and GO fits, and all known contexts. */
const MAX_OPTION_DATA = 16 * 1024;
/** Data up to this length is skipped and answered TOO_BIG; a client that sends more is hostile. */
const MAX_SKIPPED_DATA = 1024 * 1024;
/** More options than any honest client sends; bounds the work for a hostile one. */
const MAX_OPTIONS = 128;
/** More option data in all than any honest client sends; bounds the work for a hostile one. */
const MAX_TOTAL_DATA = 2 * MAX_SKIPPED_DATA;

const EMPTY = new Uint8Array(0);

type State = "flags" | "header" | "data" | "skip" | "tls" | "over";

/** The negotiation of one connection. */
export class Negotiation {
  readonly #haggling: Haggling;
  #state: State = "flags";
  /** Bytes that the current state still needs. */
  #need = 4;
  #buffered: Uint8Array = EMPTY;
  #option = 0;
  #options = 0;
  #total = 0;
  #output: Uint8Array[] = [];
  #outcome: NegotiationResult | undefined;

  constructor(exports: ExportTable, tls: TlsPolicy) {
    this.#haggling = new Haggling(exports, tls);
  }

  /** Must be called when TLS has begun, after the outcome "starttls" and before the next {@link push}. */
  secured(): void {
    this.#haggling.secured();
    this.#expectOption();
  }

  greeting(): Uint8Array {
    return encodeGreeting();
  }

  /** Takes bytes from the client. */
  push(chunk: Uint8Array): NegotiationStep {
    if (this.#state === "over" || this.#state === "tls") throw new Error("negotiation is over");
    let input: Uint8Array =
      this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    while (this.#outcome === undefined && this.#advance(input)) {
      input = input.subarray(this.#consumed);
    }
    this.#buffered = EMPTY;
    const output = this.#output;
    this.#output = [];
    if (this.#outcome === undefined) {
      // Copied, as the caller may reuse its buffer. Buffer.slice() would not copy.
      this.#buffered = new Uint8Array(input);
      return { output };
    }
    const outcome = this.#outcome;
    this.#outcome = undefined;
    if (outcome.kind === "starttls") {
      // Unencrypted data after it can only be an injection (CVE-2021-3716).
      if (input.length > 0) return this.#injected();
      this.#state = "tls";
      return { output, outcome };
    }
    this.#state = "over";
    if (outcome.kind === "transmission") {
      return { output, outcome: { ...outcome, leftover: new Uint8Array(input) } };
    }
    return { output, outcome };
  }

  #injected(): NegotiationStep {
    this.#state = "over";
    const reason = "data in the clear came behind NBD_OPT_STARTTLS";
    return { output: [], outcome: { kind: "close", reason, fault: true } };
  }

  #consumed = 0;

  /** Handles one unit of input, of `#consumed` bytes; false when it is incomplete. */
  #advance(input: Uint8Array): boolean {
    if (this.#state === "skip") {
      this.#consumed = Math.min(this.#need, input.length);
      this.#need -= this.#consumed;
      if (this.#need === 0) {
        this.#expectOption();
        this.#take(this.#haggling.answerTooBig(this.#option));
      }
      return this.#consumed > 0;
    }
    if (input.length < this.#need) return false;
    const unit = input.subarray(0, this.#need);
    this.#consumed = this.#need;
    if (this.#state === "flags") this.#clientFlags(unit);
    else if (this.#state === "header") this.#optionHeader(unit);
    else {
      this.#expectOption();
      this.#take(this.#haggling.answer(this.#option, unit));
    }
    return true;
  }

  #expectOption(): void {
    this.#state = "header";
    this.#need = 16;
  }

  #clientFlags(unit: Uint8Array): void {
    const flags = view(unit).getUint32(0);
    if ((flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) !== 0) {
      this.#close(`unknown client flags 0x${flags.toString(16)}: not an NBD client?`);
      return;
    }
    this.#haggling.noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) !== 0;
    this.#expectOption();
  }

  #optionHeader(unit: Uint8Array): void {
    const header = view(unit);
    if (header.getBigUint64(0) !== IHAVEOPT) {
      this.#close("bad option magic: not an NBD client?");
      return;
    }
    this.#option = header.getUint32(8);
    this.#need = header.getUint32(12);
    this.#total += this.#need;
    if (++this.#options > MAX_OPTIONS) {
      this.#close(`more than ${MAX_OPTIONS} options`);
    } else if (this.#total > MAX_TOTAL_DATA) {
      this.#close(`options with ${this.#total} bytes of data in all`);
    } else if (this.#need > MAX_SKIPPED_DATA) {
      this.#close(`option ${this.#option} with ${this.#need} bytes of data`);
    } else if (this.#need > MAX_OPTION_DATA) {
      this.#state = "skip";
    } else {
      this.#state = "data";
    }
  }

  #take({ output, outcome }: NegotiationStep): void {
    this.#output.push(...output);
    this.#outcome = outcome;
  }

  #close(reason: string): void {
    this.#outcome = { kind: "close", reason, fault: true };
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
