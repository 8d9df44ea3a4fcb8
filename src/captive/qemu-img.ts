/** The shortcut `run pipe=FILE IMAGE`: qemu-img(1) as the captive command. */
import { statSync } from "node:fs";
import { EXIT, UserError } from "../errors.ts";

/** The command that copies an image into the export at `uri`. */
export function convertCommand(image: string, format: string | undefined, uri: string): string[] {
  return ["qemu-img", "convert", "-n", ...formatWords(format), "-O", "raw", "--", image, uri];
}

function formatWords(format: string | undefined): string[] {
  return format === undefined ? [] : ["-f", format];
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
  if (Bun.which("qemu-img") === null) {
    throw new UserError(
      "ERR_QEMU_IMG",
      "qemu-img is not installed: install the package qemu-utils (Debian, Ubuntu) or qemu-img (Fedora)",
      EXIT.NOT_FOUND,
    );
  }
  const info = Bun.spawn({
    cmd: ["qemu-img", "info", "--output=json", ...formatWords(format), "--", image],
    stdio: ["ignore", "pipe", "pipe"],
    signal: stop,
  });
  const [output, complaint, status] = await Promise.all([
    new Response(info.stdout).text(),
    new Response(info.stderr).text(),
    info.exited,
  ]);
  if (status !== 0) {
    throw new UserError("ERR_QEMU_IMG", `cannot read ${image}: ${complaint.trim()}`);
  }
  const { "virtual-size": size, format: found } = JSON.parse(output) as {
    "virtual-size": number;
    format: string;
  };
  return BigInt(found === "raw" ? rawSize(image, size) : size);
}

/** qemu-img counts sectors, but a raw image may end within one. */
function rawSize(image: string, rounded: number): number {
  const stats = statSync(image, { throwIfNoEntry: false });
  return stats?.isFile() ? stats.size : rounded;
}
