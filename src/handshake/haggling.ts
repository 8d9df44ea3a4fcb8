/**
 * Option haggling (doc/proto.md, "Newstyle negotiation", "Option types"): the replies to options, and
 * what has been agreed so far.
 */
import {
  NBD_FLAG_SEND_DF,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from "../protocol/constants.ts";
import {
  ALLOCATION_CONTEXT,
  ALLOCATION_ID,
  type ExportInfo,
  type ExportTable,
  type Negotiated,
  UNBOUNDED_SIZE,
} from "../protocol/export.ts";
import { decodeInfoRequest, decodeMetaContextRequest, decodeString } from "./option-data.ts";
import {
  encodeExportNameReply,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionReply,
  encodeServer,
  encodeText,
} from "./option-reply.ts";

const EMPTY = new Uint8Array(0);

/**
 * The server's modes of "TLS support": NOTLS, SELECTIVETLS with an export that is open with and without
 * TLS, and FORCEDTLS.
 */
export type TlsPolicy = "off" | "on" | "require";

/** The options of one connection. */
export class Haggling {
  /** NBD_FLAG_C_NO_ZEROES: no padding after NBD_OPT_EXPORT_NAME. */
  noZeroes = false;
  readonly #exports: ExportTable;
  readonly #tls: TlsPolicy;
  #secure = false;
  #structured = false;
  #extended = false;
  /** The export name for which `base:allocation` is selected. */
  #allocationFor: string | undefined;
  /** The option that is being answered, and the result so far. */
  #option = 0;
  #output: Uint8Array[] = [];
  #outcome: NegotiationResult | undefined;

  constructor(exports: ExportTable, tls: TlsPolicy) {
    this.#exports = exports;
    this.#tls = tls;
  }

  /**
   * Called when TLS has begun. Discards what was agreed before, as a server MUST: an attacker may have
   * sent it ("NBD_OPT_STARTTLS"; CVE-2021-3716).
   */
  secured(): void {
    this.#secure = true;
    this.#structured = false;
    this.#extended = false;
    this.#allocationFor = undefined;
  }

  /** Answers an option. The caller adds `leftover` to a transmission. */
  answer(option: number, data: Uint8Array): NegotiationStep {
    this.#begin(option);
    if (this.#refusesInsecure(option)) return this.#step();
    switch (option) {
      case NBD_OPT_EXPORT_NAME:
        this.#exportName(data);
        break;
      case NBD_OPT_ABORT:
        this.#reply(NBD_REP_ACK);
        this.#outcome = { kind: "close", reason: "the client ended negotiation", fault: false };
        break;
      case NBD_OPT_LIST:
        this.#list(data);
        break;
      case NBD_OPT_INFO:
      case NBD_OPT_GO:
        this.#infoOrGo(data);
        break;
      case NBD_OPT_STARTTLS:
        this.#startTls(data);
        break;
      case NBD_OPT_STRUCTURED_REPLY:
        this.#structuredReply(data);
        break;
      case NBD_OPT_EXTENDED_HEADERS:
        this.#extendedHeaders(data);
        break;
      case NBD_OPT_LIST_META_CONTEXT:
      case NBD_OPT_SET_META_CONTEXT:
        this.#metaContext(data);
        break;
      default:
        this.#error(NBD_REP_ERR_UNSUP, "option not supported");
    }
    return this.#step();
  }

  /** Answers an option whose data was too long to be kept. */
  answerTooBig(option: number): NegotiationStep {
    this.#begin(option);
    if (this.#refusesInsecure(option)) return this.#step();
    const text = "the option's data is too long";
    // This option alone has no error reply.
    if (option === NBD_OPT_EXPORT_NAME) this.#close(text);
    else this.#error(NBD_REP_ERR_TOO_BIG, text);
    return this.#step();
  }

  #begin(option: number): void {
    this.#option = option;
    this.#output = [];
    this.#outcome = undefined;
    // "Issuing this command replaces all previously-set metadata contexts (including when this
    // command fails)".
    if (option === NBD_OPT_SET_META_CONTEXT) this.#allocationFor = undefined;
  }

  #step(): NegotiationStep {
    const output = this.#output;
    return this.#outcome === undefined ? { output } : { output, outcome: this.#outcome };
  }

  /** Under FORCEDTLS, refuses all options but STARTTLS and ABORT before TLS has begun. */
  #refusesInsecure(option: number): boolean {
    if (this.#tls !== "require" || this.#secure) return false;
    if (option === NBD_OPT_STARTTLS || option === NBD_OPT_ABORT) return false;
    const text = "this server wants TLS";
    if (option === NBD_OPT_EXPORT_NAME) this.#close(`${text}, which the client did not begin`);
    else this.#error(NBD_REP_ERR_TLS_REQD, text);
    return true;
  }

  #startTls(data: Uint8Array): void {
    if (this.#tls === "off") this.#error(NBD_REP_ERR_POLICY, "TLS is not enabled on this server");
    else if (this.#secure) this.#error(NBD_REP_ERR_INVALID, "TLS has begun already");
    else if (data.length > 0) this.#error(NBD_REP_ERR_INVALID, "NBD_OPT_STARTTLS takes no data");
    else {
      this.#reply(NBD_REP_ACK);
      this.#outcome = { kind: "starttls" };
    }
  }

  #exportName(data: Uint8Array): void {
    // This option has no error reply: the server closes the connection.
    if (this.#extended) {
      // "Once extended headers are successfully requested, a client MUST NOT use" it.
      this.#close("the client wants extended headers, and used NBD_OPT_EXPORT_NAME all the same");
      return;
    }
    const name = decodeString(data);
    const info = name === undefined ? undefined : this.#exports.find(name);
    if (name === undefined || info === undefined) {
      this.#close("the client asked for another export name");
      return;
    }
    this.#output.push(encodeExportNameReply(this.#withFlags(info), !this.noZeroes));
    this.#transmission(name, info);
  }

  #list(data: Uint8Array): void {
    if (data.length > 0) return this.#error(NBD_REP_ERR_INVALID, "NBD_OPT_LIST takes no data");
    for (const { name = "" } of this.#exports.all) {
      this.#output.push(encodeServer(this.#option, name));
    }
    this.#reply(NBD_REP_ACK);
  }

  #infoOrGo(data: Uint8Array): void {
    const request = decodeInfoRequest(data);
    if (request === undefined) {
      return this.#error(NBD_REP_ERR_INVALID, "malformed request for information");
    }
    const info = this.#exports.find(request.name);
    if (info === undefined) return this.#unknown();
    const option = this.#option;
    this.#output.push(encodeInfoExport(option, this.#withFlags(info)));
    if (request.infos.has(NBD_INFO_NAME)) {
      const canonical = info.name ?? request.name;
      this.#output.push(encodeInfoText(option, NBD_INFO_NAME, canonical));
    }
    if (request.infos.has(NBD_INFO_DESCRIPTION)) {
      this.#output.push(encodeInfoText(option, NBD_INFO_DESCRIPTION, info.description));
    }
    if (request.infos.has(NBD_INFO_BLOCK_SIZE)) this.#output.push(encodeInfoBlockSize(option));
    this.#reply(NBD_REP_ACK);
    if (option === NBD_OPT_GO) this.#transmission(request.name, info);
  }

  #structuredReply(data: Uint8Array): void {
    if (data.length > 0) {
      return this.#error(NBD_REP_ERR_INVALID, "NBD_OPT_STRUCTURED_REPLY takes no data");
    }
    if (this.#extended) {
      return this.#error(NBD_REP_ERR_EXT_HEADER_REQD, "extended headers have been negotiated");
    }
    this.#structured = true;
    this.#reply(NBD_REP_ACK);
  }

  #extendedHeaders(data: Uint8Array): void {
    if (data.length > 0) {
      return this.#error(NBD_REP_ERR_INVALID, "NBD_OPT_EXTENDED_HEADERS takes no data");
    }
    this.#extended = true;
    // "this option takes precedence over structured replies": what requires those is allowed.
    this.#structured = true;
    this.#reply(NBD_REP_ACK);
  }

  #metaContext(data: Uint8Array): void {
    // A SHOULD for SET. For LIST, a server SHOULD NOT advertise to a client without structured replies what
    // requires them.
    if (!this.#structured) {
      return this.#error(NBD_REP_ERR_INVALID, "structured replies have not been negotiated");
    }
    const request = decodeMetaContextRequest(data);
    if (request === undefined) {
      return this.#error(NBD_REP_ERR_INVALID, "malformed request for metadata contexts");
    }
    const info = this.#exports.find(request.name);
    if (info === undefined) return this.#unknown();
    // Unknown queries MUST be ignored, in every namespace. Only LIST has wildcards.
    const { queries } = request;
    const named = queries.has(ALLOCATION_CONTEXT);
    if (!this.#canBeMapped(info)) return this.#reply(NBD_REP_ACK);
    if (this.#option === NBD_OPT_SET_META_CONTEXT) {
      if (named) {
        this.#allocationFor = request.name;
        this.#output.push(encodeMetaContext(this.#option, ALLOCATION_ID, ALLOCATION_CONTEXT));
      }
    } else if (named || queries.has("base:") || queries.size === 0) {
      // The context ID is reserved in the reply to LIST.
      this.#output.push(encodeMetaContext(this.#option, 0, ALLOCATION_CONTEXT));
    }
    this.#reply(NBD_REP_ACK);
  }

  /**
   * False for an unbounded disk with compact headers. Their requests and descriptors cover less than 4
   * GiB, so a client would need two thousand million BLOCK_STATUS requests. Without the context it
   * takes the whole disk for data.
   */
  #canBeMapped({ size }: ExportInfo): boolean {
    return this.#extended || size < UNBOUNDED_SIZE;
  }

  /** An export with the flags for this client. */
  #withFlags(info: ExportInfo): ExportInfo {
    return this.#structured ? { ...info, flags: info.flags | NBD_FLAG_SEND_DF } : info;
  }

  #transmission(exportName: string, info: ExportInfo): void {
    // A context is valid only for the name that it was selected with, not for another name of the same
    // export ("NBD_OPT_SET_META_CONTEXT").
    const allocation = this.#allocationFor === exportName;
    const negotiated = { structured: this.#structured, extended: this.#extended, allocation };
    this.#outcome = { kind: "transmission", exportName, info, negotiated, leftover: EMPTY };
  }

  #reply(type: number, data: Uint8Array = EMPTY): void {
    this.#output.push(encodeOptionReply(this.#option, type, data));
  }

  #error(type: number, text: string): void {
    this.#reply(type, encodeText(text));
  }

  #unknown(): void {
    this.#error(NBD_REP_ERR_UNKNOWN, whatThereIs(this.#exports.all));
  }

  #close(reason: string): void {
    this.#outcome = { kind: "close", reason, fault: true };
  }
}

/** A text for a client that has asked for another export; a client may cut it after 4096 bytes. */
function whatThereIs(exports: readonly ExportInfo[]): string {
  const names = exports.map(({ name = "" }) => `"${name}"`);
  if (names.length === 1) return `the export is called ${names[0]}`;
  return names.length === 0 ? "all streams are over" : `there are ${names.join(", ")}`;
}

/** How negotiation ended. */
export type NegotiationResult =
  /** The transmission phase begins; `leftover` are bytes that belong to it. */
  | {
      readonly kind: "transmission";
      readonly exportName: string;
      /** The export that has this name. */
      readonly info: ExportInfo;
      readonly negotiated: Negotiated;
      readonly leftover: Uint8Array;
    }
  /**
   * TLS begins once the output is sent. Then call `Negotiation.secured`, and `push` with the decrypted
   * bytes.
   */
  | { readonly kind: "starttls" }
  /**
   * The connection must be closed once the output is sent. `reason` is for the log; `fault` is true
   * when the client broke the protocol.
   */
  | { readonly kind: "close"; readonly reason: string; readonly fault: boolean };

/** The result of a chunk of input, or of an option. */
export interface NegotiationStep {
  /** Bytes for the client, in order. */
  readonly output: readonly Uint8Array[];
  /** Set when negotiation ends or TLS begins; no further input may be pushed then. */
  readonly outcome?: NegotiationResult;
}
