/** Folders that go when the test is over. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Bytes of TMPDIR that leave room for a Unix socket's path, which has 107 at most, in a folder in a test's own. */
const LONGEST = 40;

/** A fresh folder for one test, in /tmp where TMPDIR is too long; `using` removes it. */
export function tempFolder(): Disposable & { readonly path: string; file(name: string): string } {
  const base = Buffer.byteLength(tmpdir()) > LONGEST ? "/tmp" : tmpdir();
  const path = mkdtempSync(join(base, "nbd-streaming-test-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}
