/** Takes messages for the user. */
export interface Log {
  /** One line for each stage of the stream. */
  info(message: string): void;
  /** Something is wrong, but the stream continues. */
  warn(message: string): void;
  /** Details for finding a fault. */
  verbose(message: string): void;
}
