/** Takes messages for the user. */
import type { Words } from "./messages/notice.ts";

export interface Log {
  /** One line for each stage of the stream. */
  info(message: Words): void;
  /** Something is wrong, but the stream continues. */
  warn(message: Words): void;
  /** Details for finding a fault. */
  verbose(message: Words): void;
}
