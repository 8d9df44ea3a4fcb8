/** Where messages for the user go. */
export interface Log {
  /** Progress of the whole; one line for each stage. */
  info(message: string): void;
  /** Something is wrong but the stream goes on. */
  warn(message: string): void;
  /** What only interests who looks for a fault. */
  verbose(message: string): void;
}
