/** Decoding of option data, which is untrusted. */
import { NBD_MAX_STRING } from "../protocol/constants.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes a string: UTF-8, no NUL, at most 4096 bytes; undefined if it is not valid ("Conventions"). */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.length > NBD_MAX_STRING || bytes.includes(0)) return undefined;
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Reads data from start to end; each method returns undefined when too little is left. */
export class OptionData {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes that have not been read yet. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  uint16(): number | undefined {
    if (this.left < 2) return undefined;
    this.#at += 2;
    return this.#view.getUint16(this.#at - 2);
  }

  uint32(): number | undefined {
    if (this.left < 4) return undefined;
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4);
  }

  /** A string after its 32-bit length. */
  string(): string | undefined {
    const length = this.uint32();
    // Checked before any arithmetic, as it may be near 2^32.
    if (length === undefined || length > this.left) return undefined;
    this.#at += length;
    return decodeString(this.#bytes.subarray(this.#at - length, this.#at));
  }
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export interface InfoRequest {
  readonly name: string;
  /** `NBD_INFO_*` values, including unknown ones. */
  readonly infos: ReadonlySet<number>;
}

/** @returns undefined when lengths and data do not agree, or the name is no valid string */
export function decodeInfoRequest(bytes: Uint8Array): InfoRequest | undefined {
  const data = new OptionData(bytes);
  const name = data.string();
  const count = data.uint16();
  if (name === undefined || count === undefined || data.left !== 2 * count) return undefined;
  const infos = new Set<number>();
  for (let info = data.uint16(); info !== undefined; info = data.uint16()) infos.add(info);
  return { name, infos };
}

/** The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export interface MetaContextRequest {
  /** The export name. */
  readonly name: string;
  /** The client's queries, including those with an unknown namespace or none. */
  readonly queries: ReadonlySet<string>;
}

/** @returns undefined when lengths and data do not agree, or a string is not valid */
export function decodeMetaContextRequest(bytes: Uint8Array): MetaContextRequest | undefined {
  const data = new OptionData(bytes);
  const name = data.string();
  const count = data.uint32();
  // A query takes at least 4 bytes, so the remaining length bounds the work.
  if (name === undefined || count === undefined || count > data.left / 4) return undefined;
  const queries = new Set<string>();
  for (let i = 0; i < count; i++) {
    const query = data.string();
    if (query === undefined) return undefined;
    queries.add(query);
  }
  return data.left === 0 ? { name, queries } : undefined;
}
