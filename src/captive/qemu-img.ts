/** The shortcuts `run pipe=SINK IMAGE` and `run read=SOURCE IMAGE`: qemu-img(1) as the command. */
import { statSync } from "node:fs";
import { extname } from "node:path";
import { EXIT, UserError, usageError } from "../errors.ts";
import { keepEndsOfChildren } from "../process/child.ts";

/** The command that copies an image into the export at `uri`. */
export function exportCommand(image: string, format: string | undefined, uri: string): string[] {
  return ["qemu-img", "convert", "-n", ...formatWords(format), "-O", "raw", "--", image, uri];
}

/** The path of an image that has one; undefined for other names that qemu-img takes, such as `rbd:…`. */
export function imagePath(image: string): string | undefined {
  if (image.startsWith("file:")) return image.slice("file:".length);
  // As qemu tells a protocol from a path.
  return /^[^/]*:/.test(image) ? undefined : image;
}

function formatWords(format: string | undefined): string[] {
  return format === undefined ? [] : ["-f", format];
}

/** The command that copies the export at `uri` into an image, which it makes or replaces. */
export function importCommand(uri: string, format: string, image: string): string[] {
  return ["qemu-img", "convert", "-f", "raw", "-O", format, "--", uri, image];
}

/** Formats that have an extension of their own, by qemu-img's names. */
const EXTENSIONS: Record<string, string> = {
  ".qcow2": "qcow2",
  ".qcow": "qcow",
  ".qed": "qed",
  ".vmdk": "vmdk",
  ".vdi": "vdi",
  ".vhd": "vpc",
  ".vpc": "vpc",
  ".vhdx": "vhdx",
  ".raw": "raw",
  ".img": "raw",
};

/** The formats by the names that qemu-img has for them. */
export const FORMATS: readonly string[] = [...new Set(Object.values(EXTENSIONS))];

/** The format of an image to make. @throws UserError ERR_USAGE when its extension does not tell */
export function outputFormat(image: string, given: string | undefined): string {
  const format = given ?? EXTENSIONS[extname(image).toLowerCase()];
  if (format !== undefined) return format;
  throw usageError(`the format of ${image} does not show in its name: give -O, such as -O qcow2`);
}

/** @throws UserError without qemu-img */
export function requireQemuImg(): void {
  if (Bun.which("qemu-img") !== null) return;
  throw new UserError(
    "ERR_QEMU_IMG",
    "qemu-img is not installed: install the package qemu-utils (Debian, Ubuntu) or qemu-img (Fedora)",
    EXIT.NOT_FOUND,
  );
}

/**
 * The size of the disk in an image, in bytes.
 *
 * @param stop aborted when there is no time to wait any more
 * @throws UserError when qemu-img is missing or cannot read the image
 */
export async function imageSize(
  image: string,
  format: string | undefined,
  stop: AbortSignal,
): Promise<bigint> {
  requireQemuImg();
  keepEndsOfChildren();
  const info = Bun.spawn({
    cmd: ["qemu-img", "info", "--output=json", ...formatWords(format), "--", image],
    // The image may be /dev/stdin, which has to be the same here as when it is copied.
    stdio: ["inherit", "pipe", "pipe"],
    signal: stop,
  });
  const [output, complaint, status] = await Promise.all([
    new Response(info.stdout).text(),
    new Response(info.stderr).text(),
    // Somebody else may have asked for it (waitpid(2), ECHILD).
    info.exited.catch(() => undefined),
  ]);
  if (status !== 0) {
    // qemu-img may use several lines.
    const said = complaint.trim().replace(/\s*\n\s*/g, " ");
    const why =
      said === "" ? `qemu-img info has ended with ${status ?? "an unknown status"}` : said;
    throw new UserError("ERR_QEMU_IMG", `cannot read ${image}: ${why}${remedy(image, complaint)}`);
  }
  const { "virtual-size": size, format: found } = JSON.parse(output) as {
    "virtual-size": number;
    format: string;
  };
  return BigInt(found === "raw" ? rawSize(image, size) : size);
}

function remedy(image: string, complaint: string): string {
  if (complaint.includes("lock")) return "; end the program that uses it first";
  if (complaint.includes("Unknown protocol")) return `; if it is a file, write ./${image}`;
  if (statSync(image, { throwIfNoEntry: false })?.isFIFO()) {
    return "; qemu-img needs a file, in which it can seek: a pipe is none";
  }
  return "";
}

/** qemu-img counts sectors, but a raw image may end within one. */
function rawSize(image: string, rounded: number): number {
  const stats = statSync(image, { throwIfNoEntry: false });
  return stats?.isFile() ? stats.size : rounded;
}
