/** What the entry point hands to a command. */
import type { Outline } from "../reference/outline.ts";

export interface CliContext {
  /** The words after `--`; undefined without one. */
  readonly captive: readonly string[] | undefined;
  /** The stream thread's file. */
  readonly workerUrl: URL;
  /** The whole command line. */
  readonly outline: () => Promise<Outline>;
}
