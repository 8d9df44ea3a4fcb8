/** Runs a stream that is written, from the command line to the digest of what came out of the FIFO. */
import { PROGRAM, start, type StartOptions } from "./program.ts";
import { digestFifo } from "./reader.ts";
import { tempFolder } from "./temp.ts";

export interface StreamedOptions extends StartOptions {
  /** How to start the program, if not as the other tests do. */
  readonly program?: readonly string[];
}

/**
 * Runs `run pipe=FIFO ARGS...`, which must exit with status 0.
 *
 * @returns SHA-256 of what came out of the FIFO
 */
export async function streamed(
  args: readonly string[],
  { program = PROGRAM, ...options }: StreamedOptions = {},
): Promise<string> {
  using folder = tempFolder();
  const fifo = folder.file("stream.fifo");
  await using digest = digestFifo(fifo);
  await using running = start([...program, "run", `pipe=${fifo}`, ...args], options);
  const { status, stderr } = await running.ended();
  // Only then: a reader of a stream that never began waits for ever.
  if (status !== 0) throw new Error(`run ${args.join(" ")} exited with ${status}: ${stderr}`);
  return await digest.sha256();
}
