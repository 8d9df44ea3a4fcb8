/** Recognizes streams that begin like something else than a raw disk. */
import { type CaptiveCommand, isPlainWord } from "../captive/command.ts";
import type { Direction, EndpointSpec } from "../endpoint/spec.ts";
import type { Notice } from "../messages/notice.ts";

/** The first bytes of a format, as latin1, at an offset. */
interface Magic {
  readonly bytes: RegExp | string;
  readonly at?: number;
  /** Of the tool or the format. */
  readonly name: string;
}

/** Compressed data; `by` decompresses it to standard output. No disk begins like this. */
const COMPRESSED: readonly (Magic & { readonly by: string })[] = [
  { bytes: "\x28\xb5\x2f\xfd", name: "zstd", by: "zstd -dc" },
  { bytes: "\x1f\x8b\x08", name: "gzip", by: "gzip -dc" },
  { bytes: "\xfd7zXZ\0", name: "xz", by: "xz -dc" },
  { bytes: /^BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)/, name: "bzip2", by: "bzip2 -dc" },
  { bytes: "\x04\x22\x4d\x18", name: "lz4", by: "lz4 -dc" },
  { bytes: "\x89LZO\0\r\n\x1a\n", name: "lzop", by: "lzop -dc" },
  { bytes: "7z\xbc\xaf\x27\x1c", name: "7z", by: "7z x -so" },
  { bytes: "PK\x03\x04", name: "zip", by: "unzip -p" },
];

/** Image formats that need seeking. As a raw disk they are nearly always a mistake. */
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
 * Formats that programs also write and read as streams, such as a VMDK inside of an OVA, so a command may
 * want them as they are. They are a mistake where qemu-img copies an IMAGE.
 */
const STREAMABLE: readonly Magic[] = [
  { bytes: "KDMV", name: "vmdk" },
  { bytes: "COWD", name: "vmdk" },
  { bytes: "# Disk DescriptorFile", name: "vmdk" },
  { bytes: "conectix", name: "vpc" },
  { bytes: "ustar", at: 257, name: "tar (perhaps an OVA)" },
];

/** The endpoint and the client of a stream. */
export interface Between {
  readonly direction: Direction;
  readonly spec: EndpointSpec;
  /** The image that qemu-img(1) copies; undefined for other clients. */
  readonly image?: string | undefined;
  /** The user's command, if there is one. */
  readonly command?: CaptiveCommand | undefined;
}

/** A warning if the stream is probably no raw disk. @param start its first bytes, a few hundred */
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

/** The image format that a disk begins like, if it is none of raw bytes. @param start as for {@link doubtOf} */
export function imageFormat(start: Uint8Array): string | undefined {
  const text = Buffer.from(start).toString("latin1");
  return [...IMAGES, ...STREAMABLE].find((magic) => matches(text, magic))?.name;
}

function matches(start: string, { bytes, at = 0 }: Magic): boolean {
  return typeof bytes === "string" ? start.startsWith(bytes, at) : bytes.test(start.slice(at));
}

/** True for a client that detects the format of the disk by itself. */
function looksForFormats({ direction, command }: Between): boolean {
  if (direction === "write" || command === undefined) return false;
  const line = typeof command === "string" ? command : command.join(" ");
  return /\bqemu-/.test(line) && !/(?:-f\s*|driver=|format=)raw\b/.test(line);
}
