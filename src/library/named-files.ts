/** What the user has named that a stream is made of, or is reached by. */
import { imagePath } from "../captive/qemu-img.ts";
import type { Target } from "../endpoint/prepare/target.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { NamedFile } from "../files/place.ts";
import type { Entrance } from "../server/address.ts";

export interface StreamParts {
  readonly direction: Direction;
  readonly target: Target;
  readonly image?: string | undefined;
  readonly listen?: Entrance | undefined;
}

/** The files that a report or a pid file must not be. */
export function namedFiles({ direction, target, image, listen }: StreamParts): NamedFile[] {
  const files: (NamedFile | undefined)[] = [
    target.kind === "path"
      ? { name: `${direction === "write" ? "pipe" : "read"}=`, path: target.path }
      : undefined,
    target.kind === "descriptor"
      ? { name: target.name, path: `/proc/self/fd/${target.fd}` }
      : undefined,
    listen?.kind === "unix" ? { name: "--unix", path: listen.path } : undefined,
  ];
  const path = image === undefined ? undefined : imagePath(image);
  if (path !== undefined) files.push({ name: "IMAGE", path });
  return files.filter((file) => file !== undefined);
}
