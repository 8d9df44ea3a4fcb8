/** What the entry point hands to a command. */

export interface CliContext {
  /** The words after `--`; undefined without one. */
  readonly captive: readonly string[] | undefined;
  /** The stream thread's file. */
  readonly workerUrl: URL;
}
