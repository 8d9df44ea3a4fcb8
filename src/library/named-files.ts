/** What the user has named that a stream is made of, or is reached by. */
import { imagePath } from "../captive/qemu-img.ts";
import type { Direction, EndpointSpec } from "../endpoint/spec.ts";
import type { NamedFile } from "../files/place.ts";
import type { Entrance } from "../net/address.ts";

export interface StreamParts {
  readonly direction: Direction;
  readonly spec: EndpointSpec;
  readonly image?: string | undefined;
  readonly listen?: Entrance | undefined;
}

/** The files that a report or a pid file must not be. */
export function namedFiles({ direction, spec, image, listen }: StreamParts): NamedFile[] {
  const files: (NamedFile | undefined)[] = [
    spec.kind === "path"
      ? {
          name: { code: "OPTION", option: direction === "write" ? "pipe" : "read" },
          path: spec.path,
        }
      : undefined,
    spec.kind === "descriptor" ? { name: spec.name, path: `/proc/self/fd/${spec.fd}` } : undefined,
    listen?.kind === "unix"
      ? { name: { code: "OPTION", option: "socketPath" }, path: listen.path }
      : undefined,
  ];
  const path = image === undefined ? undefined : imagePath(image);
  if (path !== undefined) files.push({ name: { code: "OPTION", option: "image" }, path });
  return files.filter((file) => file !== undefined);
}
