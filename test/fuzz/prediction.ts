/**
 * What a server of one export must make of a client's bytes, read from the specification and not from
 * the program: one pass over all of them, with no state but a position and five facts.
 */
import {
  IHAVEOPT,
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
} from "../../src/protocol/constants.ts";
import { NAME } from "./options.ts";

export type Policy = "off" | "on" | "require";

export interface Prediction {
  /** The last reply to each option that is answered: option and type. */
  readonly replies: [option: number, type: number][];
  end: "transmission" | "close" | "open";
  /** Of the transmission phase. */
  structured: boolean;
  extended: boolean;
  allocation: boolean;
  /** The answer to EXPORT_NAME comes behind the replies, so long. */
  exportNameReply: number;
  /** How many bytes were negotiation. */
  used: number;
  /** Replies that may be missing: their chunk had more behind STARTTLS. */
  doubtful: number;
}

/** @param ends where the chunks end in which the bytes come */
export function predict(bytes: Buffer, ends: readonly number[], policy: Policy): Prediction {
  const result: Prediction = {
    replies: [],
    end: "open",
    structured: false,
    extended: false,
    allocation: false,
    exportNameReply: 0,
    used: 0,
    doubtful: 0,
  };
  const close = () => ({ ...result, end: "close" as const });
  if (bytes.length < 4) return result;
  const flags = bytes.readUInt32BE(0);
  if (flags > 3) return close();
  let secure = false;
  let contextName: string | undefined;
  let total = 0;
  let at = 4;
  for (let count = 1; ; count++) {
    if (bytes.length - at < 16) return result;
    if (bytes.readBigUInt64BE(at) !== IHAVEOPT) return close();
    const option = bytes.readUInt32BE(at + 8);
    const length = bytes.readUInt32BE(at + 12);
    total += length;
    if (count > 128 || total > 2 << 20 || length > 1 << 20) return close();
    if (bytes.length - at - 16 < length) return result;
    const data = bytes.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    result.used = at;
    const answer = (type: number) => void result.replies.push([option, type]);
    if (option === NBD_OPT_SET_META_CONTEXT && !(policy === "require" && !secure)) {
      contextName = undefined;
    }
    if (policy === "require" && !secure && ![NBD_OPT_STARTTLS, NBD_OPT_ABORT].includes(option)) {
      if (option === NBD_OPT_EXPORT_NAME) return close();
      answer(NBD_REP_ERR_TLS_REQD);
      continue;
    }
    if (length > 16 * 1024) {
      if (option === NBD_OPT_EXPORT_NAME) return close();
      answer(NBD_REP_ERR_TOO_BIG);
      continue;
    }
    switch (option) {
      case NBD_OPT_EXPORT_NAME: {
        const name = text(data);
        if (result.extended || name === undefined || !isServed(name)) return close();
        result.exportNameReply = (flags & 2) === 0 ? 134 : 10;
        return { ...result, end: "transmission", allocation: contextName === name };
      }
      case NBD_OPT_ABORT:
        answer(NBD_REP_ACK);
        return close();
      case NBD_OPT_LIST:
        answer(length === 0 ? NBD_REP_ACK : NBD_REP_ERR_INVALID);
        break;
      case NBD_OPT_INFO:
      case NBD_OPT_GO: {
        const name = request(data, 2);
        if (name === undefined) answer(NBD_REP_ERR_INVALID);
        else if (!isServed(name)) answer(NBD_REP_ERR_UNKNOWN);
        else {
          answer(NBD_REP_ACK);
          if (option === NBD_OPT_INFO) break;
          return { ...result, end: "transmission", allocation: contextName === name };
        }
        break;
      }
      case NBD_OPT_STRUCTURED_REPLY:
        if (length > 0) answer(NBD_REP_ERR_INVALID);
        else answer(result.extended ? NBD_REP_ERR_EXT_HEADER_REQD : NBD_REP_ACK);
        result.structured ||= length === 0;
        break;
      case NBD_OPT_EXTENDED_HEADERS:
        answer(length === 0 ? NBD_REP_ACK : NBD_REP_ERR_INVALID);
        result.extended ||= length === 0;
        result.structured ||= length === 0;
        break;
      case NBD_OPT_LIST_META_CONTEXT:
      case NBD_OPT_SET_META_CONTEXT: {
        const queries: string[] = [];
        const name = result.structured ? request(data, 4, queries) : undefined;
        if (name === undefined) answer(NBD_REP_ERR_INVALID);
        else if (!isServed(name)) answer(NBD_REP_ERR_UNKNOWN);
        else {
          answer(NBD_REP_ACK);
          const named = queries.includes("base:allocation");
          if (named && option === NBD_OPT_SET_META_CONTEXT) contextName = name;
        }
        break;
      }
      case NBD_OPT_STARTTLS:
        if (policy === "off") answer(NBD_REP_ERR_POLICY);
        else if (secure || length > 0) answer(NBD_REP_ERR_INVALID);
        else {
          answer(NBD_REP_ACK);
          if (!ends.includes(at)) {
            result.doubtful = result.replies.length;
            return close();
          }
          secure = true;
          result.structured = false;
          result.extended = false;
          contextName = undefined;
        }
        break;
      default:
        answer(NBD_REP_ERR_UNSUP);
    }
  }
}

function isServed(name: string): boolean {
  return name === "" || name === NAME;
}

function text(bytes: Buffer): string | undefined {
  const decoded = bytes.toString("utf8");
  if (bytes.length > 4096 || bytes.includes(0)) return undefined;
  return Buffer.from(decoded).equals(bytes) ? decoded : undefined;
}

/** The name in the data of an option, if all of the data is as it must be. */
function request(data: Buffer, width: 2 | 4, queries?: string[]): string | undefined {
  if (data.length < 4) return undefined;
  let at = 4 + data.readUInt32BE(0);
  if (at + width > data.length) return undefined;
  const name = text(data.subarray(4, at));
  let count = data.readUIntBE(at, width);
  at += width;
  if (queries === undefined) return at + 2 * count === data.length ? name : undefined;
  for (; count > 0; count--) {
    if (at + 4 > data.length) return undefined;
    const end = at + 4 + data.readUInt32BE(at);
    const query = end > data.length ? undefined : text(data.subarray(at + 4, end));
    if (query === undefined) return undefined;
    queries.push(query);
    at = end;
  }
  return at === data.length ? name : undefined;
}
