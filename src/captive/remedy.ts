/** What is most often the matter with a command that fails: its own message may not lead there. */
import type { HostOptions } from "../server/host.ts";

/** A command, and how far it had come. */
export interface FailedCommand extends Pick<HostOptions, "direction"> {
  /** What it copies, where it is qemu-img(1) with words of ours. */
  readonly image: string | undefined;
  /** It was connected. */
  readonly connected: boolean;
  /** Bytes that were streamed. */
  readonly emitted: number;
}

/** What to do about it. */
export function remedyFor({ direction, image, connected, emitted }: FailedCommand): string {
  const writesNothing = direction === "write" && emitted === 0;
  if (image === undefined) {
    if (!connected)
      return "see its message, and whether it is given $nbd (or $uri), in single quotes";
    return writesNothing
      ? "see its message, and whether it writes raw (-O raw) and size= is large enough"
      : "see its message";
  }
  if (direction === "write" && !connected) {
    return (
      `see qemu-img's message on ${image}; if that needs options of qemu-img's, ` +
      "give the whole command after --"
    );
  }
  return writesNothing
    ? "see qemu-img's message, and whether size= is large enough"
    : "see qemu-img's message";
}
