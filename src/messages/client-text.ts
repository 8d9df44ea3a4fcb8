/**
 * The text of NBD_REPLY_TYPE_ERROR for a broken stream: what has happened. It names no options and no
 * remedy, because the client may belong to another user.
 */
import type { Failure } from "./notice.ts";

export function clientText(failure: Failure): string {
  switch (failure.code) {
    case "BACKWARD_READ":
      return (
        `${failure.request} lies behind the stream, which has reached byte ${failure.head}: ` +
        "the client does not read from start to end"
      );
    case "SOURCE_ENDED": {
      const { source, end, size } = failure;
      const where = size === undefined ? ", and the client wants more" : ` of ${size}`;
      return `${source} ended at byte ${end}${where}`;
    }
    case "SOURCE_FAILED":
      return `${failure.what}, with the stream at byte ${failure.taken}`;
    case "SURPLUS":
      return `${failure.source} has at least ${failure.surplus} bytes more than ${failure.size}`;
    default:
      return "the stream is broken";
  }
}
