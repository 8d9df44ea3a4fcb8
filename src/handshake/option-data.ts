/** Reading of an option's data, which comes from whoever has connected. */
import { NBD_MAX_STRING } from "../protocol/constants.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A string: UTF-8, no NUL, at most 4096 bytes; undefined when it is not ("Conventions"). */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.length > NBD_MAX_STRING || bytes.includes(0)) return undefined;
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Takes data apart, from its start to its end. What is not there is undefined. */
export class OptionData {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes that have not been taken yet. */
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

  /** A string after its length of 32 bits. */
  string(): string | undefined {
    const length = this.uint32();
    // Compared before it is used: a length near 2^32 must not reach any arithmetic.
    if (length === undefined || length > this.left) return undefined;
    this.#at += length;
    return decodeString(this.#bytes.subarray(this.#at - length, this.#at));
  }
}

/** What a client asks for. */
export interface InfoRequest {
  readonly name: string;
  /** `NBD_INFO_*` values, unknown ones among them. */
  readonly infos: ReadonlySet<number>;
}

/** @returns undefined when lengths and data do not agree or the name is no valid string */
export function decodeInfoRequest(bytes: Uint8Array): InfoRequest | undefined {
  const data = new OptionData(bytes);
  const name = data.string();
  const count = data.uint16();
  if (name === undefined || count === undefined || data.left !== 2 * count) return undefined;
  const infos = new Set<number>();
  for (let info = data.uint16(); info !== undefined; info = data.uint16()) infos.add(info);
  return { name, infos };
}

/** Which metadata contexts a client asks for. */
export interface MetaContextRequest {
  /** Of the export that they belong to. */
  readonly name: string;
  /** As they came, those of unknown namespaces and those without one among them. */
  readonly queries: ReadonlySet<string>;
}

/** @returns undefined when lengths and data do not agree or a part is no valid string */
export function decodeMetaContextRequest(bytes: Uint8Array): MetaContextRequest | undefined {
  const data = new OptionData(bytes);
  const name = data.string();
  const count = data.uint32();
  // A query takes 4 bytes at least, so what is left bounds the work.
  if (name === undefined || count === undefined || count > data.left / 4) return undefined;
  const queries = new Set<string>();
  for (let i = 0; i < count; i++) {
    const query = data.string();
    if (query === undefined) return undefined;
    queries.add(query);
  }
  return data.left === 0 ? { name, queries } : undefined;
}
