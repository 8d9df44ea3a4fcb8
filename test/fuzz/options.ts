/** Valid negotiations, and an independent view of what any bytes in their place must come to. */
import {
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_PEEK_EXPORT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
} from "../../src/protocol/constants.ts";
import { encodeOption } from "../support/wire.ts";
import type { Random } from "./random.ts";

/** The one export that there is; clients may also ask for "". */
export const NAME = "disk";

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function counted(text: Buffer): Buffer {
  return Buffer.concat([u32(text.length), text]);
}

function name(random: Random): Buffer {
  const length = random.pick([1, 4, 255, 256, 257, 4095, 4096, 4097]);
  const others = [Buffer.from("other"), Buffer.from("dis\0k"), Buffer.from([0xff, 0xfe])];
  if (random.chance(0.8)) return Buffer.from(random.chance(0.7) ? NAME : "");
  return random.chance(0.5) ? random.pick(others) : Buffer.alloc(length, "é");
}

function information(random: Random): Buffer {
  const count = random.pick([0, 1, 4, 60]);
  const infos = Array.from({ length: count }, () => u16(random.below(6)));
  return Buffer.concat([counted(name(random)), u16(count), ...infos]);
}

function contexts(random: Random): Buffer {
  const known = ["base:allocation", "base:", "qemu:dirty-bitmap:b", "", "x".repeat(300)];
  const count = random.pick([0, 1, 2, 5, 200]);
  const queries = Array.from({ length: count }, () => counted(Buffer.from(random.pick(known))));
  return Buffer.concat([counted(name(random)), u32(count), ...queries]);
}

function option(random: Random): Buffer {
  const none = Buffer.alloc(0);
  switch (random.below(13)) {
    case 0:
      return encodeOption(NBD_OPT_LIST);
    case 1:
    case 2:
      return encodeOption(NBD_OPT_STRUCTURED_REPLY);
    case 3:
      return encodeOption(NBD_OPT_LIST_META_CONTEXT, contexts(random));
    case 4:
    case 5:
      return encodeOption(NBD_OPT_SET_META_CONTEXT, contexts(random));
    case 6:
    case 7:
      return encodeOption(NBD_OPT_INFO, information(random));
    case 8:
      return encodeOption(NBD_OPT_STARTTLS);
    case 9:
      return encodeOption(NBD_OPT_EXTENDED_HEADERS);
    case 10: {
      const unknown = [NBD_OPT_PEEK_EXPORT, 0, 77, 0xffffffff];
      return encodeOption(random.pick(unknown), random.bytes(random.below(40)));
    }
    case 11:
      return random.chance(0.3) ? encodeOption(NBD_OPT_ABORT) : encodeOption(NBD_OPT_LIST, none);
    default: {
      // Longer than anybody looks at; now and then longer than anybody takes.
      const length = random.chance(0.1) ? random.between(16_000, 1_100_000) : random.below(500);
      return encodeOption(random.between(1, 11), Buffer.alloc(random.chance(0.1) ? length : 0));
    }
  }
}

/** Client flags, some options, and one that leads to transmission. */
export function negotiation(random: Random): Buffer[] {
  const messages = [u32(random.pick([3, 3, 1, 0]))];
  for (let left = random.pick([0, 2, 5, 12]); left > 0; left--) messages.push(option(random));
  if (random.chance(0.9)) {
    messages.push(
      random.chance(0.7)
        ? encodeOption(NBD_OPT_GO, information(random))
        : encodeOption(NBD_OPT_EXPORT_NAME, name(random)),
    );
    if (random.chance(0.3)) messages.push(random.bytes(random.below(60)));
  }
  return messages;
}
