/** Hostile negotiations with the real state machine. */
import { Negotiation } from "../../src/handshake/negotiation.ts";
import type { NegotiationResult } from "../../src/handshake/haggling.ts";
import { NBD_OPT_EXPORT_NAME, NBD_REP_ACK, NBD_REP_MAGIC } from "../../src/protocol/constants.ts";
import { type ExportInfo, onlyExport } from "../../src/protocol/export.ts";
import { flatten, mutate, split } from "./mutate.ts";
import { NAME, negotiation } from "./options.ts";
import { type Policy, predict, type Prediction } from "./prediction.ts";
import type { Random } from "./random.ts";
import { require } from "./require.ts";

const INFO: ExportInfo = { name: NAME, size: 1 << 20, flags: 0x4d, description: "a stream" };

/** More than any honest answer to one option. */
const LARGEST_REPLY = 8192;

/** What a case is made of, for whoever has to look at it again. */
export interface Case {
  /** Messages before anything was done to them. */
  readonly messages: number;
  /** What was sent, in hex, piece by piece; clients are told apart. */
  readonly pieces: () => string[];
  readonly run: () => void | Promise<void>;
}

export function negotiationCase(random: Random): Case {
  const messages = mutate(negotiation(random), random);
  const policy: Policy = random.pick(["off", "off", "on", "require"]);
  const bytes = flatten(messages, random);
  const pieces = split(bytes, random);
  return {
    messages: messages.length,
    pieces: () => [`tls=${policy}`, ...pieces.map((piece) => piece.toString("hex"))],
    run: () => converse(bytes, pieces, policy),
  };
}

function converse(bytes: Buffer, pieces: readonly Buffer[], policy: Policy): void {
  const negotiation = new Negotiation(onlyExport(INFO), policy);
  const output: Uint8Array[] = [];
  const ends: number[] = [];
  let at = 0;
  for (const piece of pieces) ends.push((at += piece.length));
  let outcome: NegotiationResult | undefined;
  let fed = 0;
  for (const piece of pieces) {
    const step = negotiation.push(new Uint8Array(piece));
    output.push(...step.output);
    fed += piece.length;
    if (step.outcome?.kind === "starttls") negotiation.secured();
    else outcome = step.outcome;
    if (outcome !== undefined) break;
  }
  const wanted = predict(bytes, ends, policy);
  require((outcome?.kind ?? "open") === wanted.end, () => `${outcome?.kind} is not ${wanted.end}`);
  expectReplies(Buffer.concat(output), wanted);
  if (outcome?.kind !== "transmission") return;
  const { negotiated, leftover } = outcome;
  require(negotiated.structured === wanted.structured, "structured replies are not as agreed");
  require(negotiated.extended === wanted.extended, "extended headers are not as agreed");
  require(negotiated.allocation === wanted.allocation, "the metadata context is not as agreed");
  const rest = Buffer.concat([leftover, bytes.subarray(fed)]);
  require(rest.equals(bytes.subarray(wanted.used)), "bytes of transmission got lost");
}

/** Every option is answered once and in turn, by well-formed replies of which the last is final. */
export function expectReplies(output: Buffer, wanted: Prediction): void {
  const rest = [...wanted.replies];
  let at = 0;
  while (output.length - at >= 20 && output.readBigUInt64BE(at) === NBD_REP_MAGIC) {
    const [option, type] = [output.readUInt32BE(at + 8), output.readUInt32BE(at + 12)];
    const length = output.readUInt32BE(at + 16);
    require(option === rest[0]?.[0], `a reply to option ${option} is not due`);
    require(length <= LARGEST_REPLY && at + 20 + length <= output.length, "a reply is cut short");
    const isError = type >= 2 ** 31;
    if (isError) require(length <= 4096, `an error text has ${length} bytes (CVE-2020-10761)`);
    if (isError || type === NBD_REP_ACK) {
      const due = rest.shift()?.[1];
      require(type === due, `option ${option} got ${type}, not ${due}`);
    } else {
      require(rest[0]?.[1] === NBD_REP_ACK, `information before an error to option ${option}`);
    }
    at += 20 + length;
  }
  require(rest.length <= wanted.doubtful, () => `${rest.length} options got no reply`);
  const last = output.length - at;
  require(last ===
    wanted.exportNameReply, `${last} bytes after the replies: ${NBD_OPT_EXPORT_NAME}?`);
}
