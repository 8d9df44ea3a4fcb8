/** Decoding of the data of NBD_OPT_INFO and NBD_OPT_GO (doc/proto.md, "Option types"). */
import { NBD_MAX_STRING } from "../protocol/constants.ts";

/** What a client asks for. */
export interface InfoRequest {
  readonly name: string;
  /** `NBD_INFO_*` values, unknown ones among them. */
  readonly infos: ReadonlySet<number>;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** An export name: UTF-8, no NUL, at most 4096 bytes; undefined when it is not ("Conventions"). */
export function decodeName(bytes: Uint8Array): string | undefined {
  if (bytes.length > NBD_MAX_STRING || bytes.includes(0)) return undefined;
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** @returns undefined when lengths and data do not agree or the name is no valid string */
export function decodeInfoRequest(data: Uint8Array): InfoRequest | undefined {
  if (data.length < 6) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nameLength = view.getUint32(0);
  // Compared before it is used: a length near 2^32 must not reach any arithmetic.
  if (nameLength > data.length - 6) return undefined;
  const name = decodeName(data.subarray(4, 4 + nameLength));
  const count = view.getUint16(4 + nameLength);
  if (name === undefined || data.length !== 6 + nameLength + 2 * count) return undefined;
  const infos = new Set<number>();
  for (let i = 0; i < count; i++) infos.add(view.getUint16(6 + nameLength + 2 * i));
  return { name, infos };
}
