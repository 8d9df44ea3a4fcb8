/**
 * Decoding of the data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT (doc/proto.md,
 * "Option types").
 */
import { OptionData } from "./option-data.ts";

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
