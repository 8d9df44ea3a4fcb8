/** Readers of a FIFO: real processes, as the program's users have them. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { start } from "./program.ts";

/**
 * Shell words that write SHA-256 of standard input, in hex, and more behind it. sha256sum does not use the
 * processor's instructions for it everywhere, and takes five times as long then.
 */
export const SHA256 = Bun.which("openssl") === null ? "sha256sum" : "openssl dgst -sha256 -r";

/** What came out of a stream. */
export interface Digest extends AsyncDisposable {
  readonly pid: number;
  /** SHA-256 of all of it, in hex, once the stream has ended. */
  sha256(): Promise<string>;
}

/** Makes the FIFO if needed and digests what comes out of it. */
export function digestFifo(path: string): Digest {
  if (!existsSync(path)) mkfifo(path, 0o600);
  const reader = start(["sh", "-c", `exec ${SHA256} < "$0"`, path]);
  return {
    pid: reader.process.pid,
    async sha256() {
      const { stdout } = await reader.ended();
      return stdout.slice(0, 64);
    },
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  };
}

/** SHA-256 of a file, in hex. */
export async function digestFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
