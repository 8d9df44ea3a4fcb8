/**
 * Fixed newstyle negotiation (doc/proto.md, "Newstyle negotiation") as a state machine without I/O:
 * bytes in, bytes and an outcome out, at whatever splits the bytes arrive.
 */
import {
  IHAVEOPT,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from "../protocol/constants.ts";
import type { ExportInfo } from "../protocol/export.ts";
import { decodeInfoRequest } from "./info-request.ts";
import { decodeString } from "./option-data.ts";
import {
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeOptionReply,
  encodeServer,
  encodeText,
} from "./option-reply.ts";

/** How negotiation ended. */
export type Outcome =
  /** The transmission phase begins; `leftover` are bytes of it that came early. */
  | { readonly kind: "transmission"; readonly exportName: string; readonly leftover: Uint8Array }
  /**
   * The connection is to be closed once the output is sent. `reason` is for the log; `fault` is true
   * when the client broke the protocol.
   */
  | { readonly kind: "close"; readonly reason: string; readonly fault: boolean };

/** What a chunk of input led to. */
export interface Step {
  /** Bytes for the client, in order. */
  readonly output: readonly Uint8Array[];
  /** Set when negotiation is over; no further input may be pushed. */
  readonly outcome?: Outcome;
}

/** Option data up to this length is looked at; the longest valid data of INFO and GO fits well. */
const MAX_OPTION_DATA = 16 * 1024;
/** Longer data is thrown away and answered TOO_BIG, up to here; beyond it the client is hostile. */
const MAX_SKIPPED_DATA = 1024 * 1024;
/** More options than any honest client sends, few enough to bound the work for a hostile one. */
const MAX_OPTIONS = 128;

const EMPTY = new Uint8Array(0);

type State = "flags" | "header" | "data" | "skip" | "over";

/** One connection's negotiation. */
export class Negotiation {
  readonly #info: ExportInfo;
  #state: State = "flags";
  /** Bytes that the current state waits for. */
  #need = 4;
  #buffered: Uint8Array = EMPTY;
  #option = 0;
  #options = 0;
  #noZeroes = false;
  #output: Uint8Array[] = [];
  #outcome: Outcome | undefined;

  constructor(info: ExportInfo) {
    this.#info = info;
  }

  /** What the server sends first, unasked. */
  greeting(): Uint8Array {
    return encodeGreeting();
  }

  /** Takes bytes from the client. */
  push(chunk: Uint8Array): Step {
    if (this.#state === "over") throw new Error("negotiation is over");
    let input: Uint8Array =
      this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    while (this.#outcome === undefined && this.#advance(input)) {
      input = input.subarray(this.#consumed);
    }
    this.#buffered = EMPTY;
    const output = this.#output;
    this.#output = [];
    if (this.#outcome === undefined) {
      // A copy, since the caller may reuse its buffer. Not by slice(): a Buffer's is no copy.
      this.#buffered = new Uint8Array(input);
      return { output };
    }
    this.#state = "over";
    const outcome = this.#outcome;
    if (outcome.kind === "transmission") {
      return { output, outcome: { ...outcome, leftover: new Uint8Array(input) } };
    }
    return { output, outcome };
  }

  #consumed = 0;

  /** Handles one unit of input, `#consumed` bytes long; false when it is not there yet. */
  #advance(input: Uint8Array): boolean {
    if (this.#state === "skip") {
      this.#consumed = Math.min(this.#need, input.length);
      this.#need -= this.#consumed;
      if (this.#need === 0) {
        this.#error(NBD_REP_ERR_TOO_BIG, "the option's data is too long");
        this.#expectOption();
      }
      return this.#consumed > 0;
    }
    if (input.length < this.#need) return false;
    const unit = input.subarray(0, this.#need);
    this.#consumed = this.#need;
    if (this.#state === "flags") this.#clientFlags(unit);
    else if (this.#state === "header") this.#optionHeader(unit);
    else this.#optionData(unit);
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
    this.#noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) !== 0;
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
    if (++this.#options > MAX_OPTIONS) {
      this.#close(`more than ${MAX_OPTIONS} options`);
    } else if (this.#need > MAX_SKIPPED_DATA) {
      this.#close(`option ${this.#option} with ${this.#need} bytes of data`);
    } else if (this.#need > MAX_OPTION_DATA) {
      this.#state = "skip";
    } else {
      this.#state = "data";
    }
  }

  #optionData(data: Uint8Array): void {
    this.#expectOption();
    switch (this.#option) {
      case NBD_OPT_EXPORT_NAME:
        this.#exportName(data);
        break;
      case NBD_OPT_ABORT:
        this.#reply(NBD_REP_ACK);
        this.#outcome = { kind: "close", reason: "the client ended negotiation", fault: false };
        break;
      case NBD_OPT_LIST:
        if (data.length > 0) {
          this.#error(NBD_REP_ERR_INVALID, "NBD_OPT_LIST takes no data");
        } else {
          this.#output.push(encodeServer(this.#option, this.#info.name ?? ""));
          this.#reply(NBD_REP_ACK);
        }
        break;
      case NBD_OPT_INFO:
      case NBD_OPT_GO:
        this.#infoOrGo(data);
        break;
      case NBD_OPT_STARTTLS:
        this.#error(NBD_REP_ERR_POLICY, "TLS is not enabled on this server");
        break;
      default:
        this.#error(NBD_REP_ERR_UNSUP, "option not supported");
    }
  }

  #exportName(data: Uint8Array): void {
    // This option has no error reply: what cannot be served ends the connection.
    const name = decodeString(data);
    if (name === undefined || !this.#serves(name)) {
      this.#close("the client asked for another export name");
      return;
    }
    this.#output.push(encodeExportNameReply(this.#info, !this.#noZeroes));
    this.#outcome = { kind: "transmission", exportName: name, leftover: EMPTY };
  }

  #infoOrGo(data: Uint8Array): void {
    const request = decodeInfoRequest(data);
    if (request === undefined) {
      this.#error(NBD_REP_ERR_INVALID, "malformed request for information");
      return;
    }
    if (!this.#serves(request.name)) {
      this.#error(NBD_REP_ERR_UNKNOWN, `the export is called "${this.#info.name}"`);
      return;
    }
    const option = this.#option;
    this.#output.push(encodeInfoExport(option, this.#info));
    if (request.infos.has(NBD_INFO_NAME)) {
      const canonical = this.#info.name ?? request.name;
      this.#output.push(encodeInfoText(option, NBD_INFO_NAME, canonical));
    }
    if (request.infos.has(NBD_INFO_DESCRIPTION)) {
      this.#output.push(encodeInfoText(option, NBD_INFO_DESCRIPTION, this.#info.description));
    }
    if (request.infos.has(NBD_INFO_BLOCK_SIZE)) this.#output.push(encodeInfoBlockSize(option));
    this.#reply(NBD_REP_ACK);
    if (option === NBD_OPT_GO) {
      this.#outcome = { kind: "transmission", exportName: request.name, leftover: EMPTY };
    }
  }

  #serves(name: string): boolean {
    return this.#info.name === undefined || name === "" || name === this.#info.name;
  }

  #reply(type: number, data: Uint8Array = EMPTY): void {
    this.#output.push(encodeOptionReply(this.#option, type, data));
  }

  #error(type: number, text: string): void {
    if (this.#option === NBD_OPT_EXPORT_NAME) this.#close(text);
    else this.#reply(type, encodeText(text));
  }

  #close(reason: string): void {
    this.#outcome = { kind: "close", reason, fault: true };
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
