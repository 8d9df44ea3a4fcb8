/** Streams that are taken for the bytes of a disk, and begin like something else. */
import { type CaptiveCommand, isPlainWord } from "../captive/command.ts";
import type { Direction, EndpointSpec } from "../endpoint/spec.ts";
import type { Notice } from "../messages/notice.ts";

/** What something begins with: bytes, as latin1, at a place. */
interface Magic {
  readonly bytes: RegExp | string;
  readonly at?: number;
  /** What has made it: a tool, or a format's name. */
  readonly name: string;
}

/** What no disk begins with. */
const COMPRESSED: readonly (Magic & {
  /** How it is written to standard output again. */
  readonly by: string;
})[] = [
  { bytes: "\x28\xb5\x2f\xfd", name: "zstd", by: "zstd -dc" },
  { bytes: "\x1f\x8b\x08", name: "gzip", by: "gzip -dc" },
  { bytes: "\xfd7zXZ\0", name: "xz", by: "xz -dc" },
  { bytes: /^BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)/, name: "bzip2", by: "bzip2 -dc" },
  { bytes: "\x04\x22\x4d\x18", name: "lz4", by: "lz4 -dc" },
  { bytes: "\x89LZO\0\r\n\x1a\n", name: "lzop", by: "lzop -dc" },
  { bytes: "7z\xbc\xaf\x27\x1c", name: "7z", by: "7z x -so" },
  { bytes: "PK\x03\x04", name: "zip", by: "unzip -p" },
];

/** Formats in which one has to seek: as the bytes of a disk they are nearly always meant for the disk in them. */
const IMAGES: readonly Magic[] = [
  { bytes: "QFI\xfb\0\0\0\x01", name: "qcow" },
  { bytes: "QFI\xfb", name: "qcow2" },
  { bytes: "QED\0", name: "qed" },
  { bytes: "vhdxfile", name: "vhdx" },
  { bytes: "\x7f\x10\xda\xbe", at: 64, name: "vdi" },
  { bytes: /^Withou(?:tFreeSpace|FreSpacExt)/, name: "parallels" },
  { bytes: "EVF\x09\r\n\xff\0", name: "EWF" },
];

/**
 * Formats that programs make and read as streams, too, such as a VMDK inside of an OVA, so that a
 * client may mean them as they are. Where the client is qemu-img with words of ours, it does not.
 */
const STREAMABLE: readonly Magic[] = [
  { bytes: "KDMV", name: "vmdk" },
  { bytes: "COWD", name: "vmdk" },
  { bytes: "# Disk DescriptorFile", name: "vmdk" },
  { bytes: "conectix", name: "vpc" },
  { bytes: "ustar", at: 257, name: "tar (perhaps an OVA)" },
];

/** What the stream is between. */
export interface Between {
  readonly direction: Direction;
  readonly spec: EndpointSpec;
  /** What qemu-img(1) copies by words of ours; undefined for other clients. */
  readonly image?: string | undefined;
  /** The client, where it is known. */
  readonly command?: CaptiveCommand | undefined;
}

/**
 * What is likely wrong with a stream as a raw disk: a warning; undefined is nothing.
 *
 * @param start its first bytes, a few hundred
 */
export function doubtOf(start: Uint8Array, between: Between): Notice | undefined {
  const { direction, spec, image } = between;
  const text = Buffer.from(start).toString("latin1");
  const path = direction === "read" && spec.kind === "path" ? spec.path : undefined;
  const about = { direction, source: path };
  const compressed = COMPRESSED.find((magic) => matches(text, magic));
  if (compressed !== undefined) {
    const file = path !== undefined && isPlainWord(path) ? path : undefined;
    return { code: "COMPRESSED", ...about, name: compressed.name, by: compressed.by, file };
  }
  const images = image === undefined ? IMAGES : [...IMAGES, ...STREAMABLE];
  const format = images.find((magic) => matches(text, magic))?.name;
  if (format === undefined || looksForFormats(between)) return undefined;
  return { code: "IMAGE_FORMAT", ...about, format, copied: image !== undefined };
}

function matches(start: string, { bytes, at = 0 }: Magic): boolean {
  return typeof bytes === "string" ? start.startsWith(bytes, at) : bytes.test(start.slice(at));
}

/** True for a client that sees by itself what the disk holds, and reads the disk in it. */
function looksForFormats({ direction, command }: Between): boolean {
  if (direction === "write" || command === undefined) return false;
  const line = typeof command === "string" ? command : command.join(" ");
  return /\bqemu-/.test(line) && !/(?:-f\s*|driver=|format=)raw\b/.test(line);
}
