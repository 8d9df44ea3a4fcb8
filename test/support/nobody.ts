/** Runs programs as a user without any rights of its own. */
import { chmodSync } from "node:fs";
import { tempFolder } from "./temp.ts";

/** Words that start a program as the user `nobody`. */
export const AS_NOBODY = ["setpriv", "--reuid", "65534", "--clear-groups"];

/** Undefined where that can be done, and that user gets to the tests' folders; else why not. */
export const noNobody = why();

function why(): string | undefined {
  if (process.getuid?.() !== 0) return "this is not root";
  if (Bun.which("setpriv") === null) return "there is no setpriv";
  using folder = tempFolder();
  chmodSync(folder.path, 0o755);
  const seen = Bun.spawnSync([...AS_NOBODY, process.execPath, "-e", ""], { cwd: "/" }).success;
  if (!seen) return "others may not run Bun";
  const { success } = Bun.spawnSync([...AS_NOBODY, "ls", folder.path]);
  return success ? undefined : "others may not get to TMPDIR";
}
