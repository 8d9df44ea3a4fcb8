/** The shortcuts `run pipe=SINK IMAGE` and `run read=SOURCE IMAGE`: qemu-img(1) as the command. */
import { statSync } from "node:fs";
import { extname } from "node:path";
import { EXIT, messageOf, UserError } from "../errors.ts";
import type { Words } from "../messages/notice.ts";
import { NoticeError, optionError } from "../messages/notice-error.ts";
import { causeOf, remedyForCause } from "./complaint.ts";
import { keepExitStatuses } from "../process/child.ts";

/** The command that copies an image into the export at `uri`. */
export function exportCommand(image: string, format: string | undefined, uri: string): string[] {
  return ["qemu-img", "convert", "-n", ...formatWords(format), "-O", "raw", "--", image, uri];
}

/** The path of an image; undefined for other names that qemu-img takes, such as `rbd:…`. */
export function imagePath(image: string): string | undefined {
  if (image.startsWith("file:")) return image.slice("file:".length);
  // qemu distinguishes a protocol from a path in this way.
  return /^[^/]*:/.test(image) ? undefined : image;
}

function formatWords(format: string | undefined): string[] {
  return format === undefined ? [] : ["-f", format];
}

/** The command that copies the export at `uri` into an image, which it makes or replaces. */
export function importCommand(uri: string, format: string, image: string): string[] {
  return ["qemu-img", "convert", "-f", "raw", "-O", format, "--", uri, image];
}

/** qemu-img's names of formats by their extensions. */
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

export const FORMATS: readonly string[] = [...new Set(Object.values(EXTENSIONS))];

/** The format of an image to make. @throws UserError ERR_USAGE when its extension does not tell */
export function outputFormat(image: string, given: string | undefined): string {
  const format = given ?? EXTENSIONS[extname(image).toLowerCase()];
  if (format !== undefined) return format;
  throw optionError({ code: "FORMAT_UNKNOWN", image });
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
 * The size of the disk in an image, in bytes; in whole sectors of 512 bytes for an image that qemu-img
 * reads over a network by another protocol than NBD.
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
  // qemu-img would wait for a writer, or consume the data.
  if (statSync(image, { throwIfNoEntry: false })?.isFIFO()) {
    throw unreadable(
      image,
      "it is a pipe; qemu-img needs a file, in which it can seek: a pipe is none",
    );
  }
  keepExitStatuses();
  const info = Bun.spawn({
    cmd: ["qemu-img", "info", "--output=json", ...formatWords(format), "--", image],
    // The image may be /dev/stdin.
    stdio: ["inherit", "pipe", "pipe"],
    signal: stop,
  });
  const [output, complaint, status] = await Promise.all([
    new Response(info.stdout).text(),
    new Response(info.stderr).text(),
    // Other code may have reaped the child (waitpid(2), ECHILD).
    info.exited.catch(() => undefined),
  ]);
  if (status !== 0) {
    const said = complaint.trim().replace(/\s*\n\s*/g, " ");
    const why =
      said === "" ? `qemu-img info has ended with ${status ?? "an unknown status"}` : said;
    const remedy = remedyForCause(causeOf(complaint, image), { image, format });
    throw unreadable(image, why, remedy);
  }
  const found = parseInfo(output);
  if (found === undefined) throw unreadable(image, "qemu-img info has not told what it is");
  const size = BigInt(found["virtual-size"]);
  // Images of other formats store the size of the disk.
  return found.format === "raw" || found.format === "nbd" ? exactSize(found, size, stop) : size;
}

/** @returns undefined for output that was cut off */
function parseInfo(output: string): Info | undefined {
  try {
    return JSON.parse(output) as Info;
  } catch {
    return undefined;
  }
}

function unreadable(image: string, why: string, hint?: Words): NoticeError {
  return new NoticeError("ERR_QEMU_IMG", { code: "IMAGE_UNREADABLE", image, why, hint });
}

/** A part of the output of `qemu-img info --output=json`. */
interface Info {
  readonly "virtual-size": number;
  readonly format: string;
  /** The file or export behind protocols such as `file:`. */
  readonly filename: string;
}

/** Raw bytes may end within a sector. @param rounded the size in whole sectors */
async function exactSize({ filename }: Info, rounded: bigint, stop: AbortSignal): Promise<bigint> {
  const stats = statSync(filename, { bigint: true, throwIfNoEntry: false });
  if (stats?.isFile()) return stats.size;
  // Loaded only if it is needed, because loading takes time.
  const { exportAddress, exportSize } = await import("./export-size.ts");
  const address = exportAddress(filename);
  if (address === undefined) return rounded;
  try {
    return await exportSize(address, stop);
  } catch (error) {
    const why = messageOf(error);
    throw new NoticeError("ERR_QEMU_IMG", { code: "IMAGE_SIZE_UNKNOWN", image: filename, why });
  }
}
