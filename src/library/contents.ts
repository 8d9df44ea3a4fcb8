/** Files that are taken for the bytes of a disk, and look like something else. */
import { isPlainWord } from "../captive/command.ts";
import { closeSync, openSync, readSync, statSync } from "node:fs";

/** What a file begins with, in latin1, and what that makes likely. */
const COMPRESSED: readonly (readonly [magic: string, tool: string])[] = [
  ["\x28\xb5\x2f\xfd", "zstd"],
  ["\x1f\x8b", "gzip"],
  ["\xfd7zXZ\0", "xz"],
  ["BZh", "bzip2"],
  ["\x04\x22\x4d\x18", "lz4"],
];

const IMAGES: readonly (readonly [magic: string, format: string])[] = [
  ["QFI\xfb", "qcow2"],
  ["KDMV", "vmdk"],
  ["vhdxfile", "vhdx"],
];

/** What is likely wrong with a file as a raw disk that is read: a warning; undefined is nothing. */
export function doubtfulSource(path: string): string | undefined {
  const start = startOf(path);
  const tool = match(start, COMPRESSED);
  if (tool !== undefined) {
    const name = isPlainWord(path) ? path : "FILE";
    return `${path} is compressed, and is read as it is: for the disk in it, write read=exec:'${tool} -dc ${name}'`;
  }
  const format = match(start, IMAGES);
  if (format === undefined) return undefined;
  return `${path} is a ${format} image, and is read as it is: qemu-img convert alone makes another image of it`;
}

/** The same of a raw image that is written. */
export function doubtfulImage(path: string): string | undefined {
  const tool = match(startOf(path), COMPRESSED);
  if (tool === undefined) return undefined;
  return `${path} is compressed, and is streamed as it is: for the disk in it, decompress it with ${tool} -d first`;
}

function match(
  start: string,
  known: readonly (readonly [magic: string, name: string])[],
): string | undefined {
  return known.find(([magic]) => start.startsWith(magic))?.[1];
}

/** The first bytes; none of what cannot be read, or is no regular file: looking would take them away. */
function startOf(path: string): string {
  let fd = -1;
  try {
    if (!statSync(path).isFile()) return "";
    fd = openSync(path, "r");
    const bytes = Buffer.alloc(8);
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)).toString("latin1");
  } catch {
    return "";
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}
