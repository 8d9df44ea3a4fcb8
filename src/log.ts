/** Where messages for the user go. */
import type { Words } from "./messages/notice.ts";

export interface Log {
  /** Progress of the whole; one line for each stage. */
  info(message: Words): void;
  /** Something is wrong but the stream goes on. */
  warn(message: Words): void;
  /** What only interests who looks for a fault. */
  verbose(message: Words): void;
}
