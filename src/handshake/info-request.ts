/** Decoding of the data of NBD_OPT_INFO and NBD_OPT_GO (doc/proto.md, "Option types"). */
import { OptionData } from "./option-data.ts";

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
