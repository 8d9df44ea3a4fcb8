/** The npm package. */
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VERSION } from "../files/about.ts";
import { ROOT, run } from "./commit.ts";

export const TARBALL = `nbd-streaming-${VERSION}.tgz`;

/**
 * Makes it in a folder, of a clone: there is nothing but the commit in it, and the files have the modes that
 * our mask gives, which the package has, too.
 */
export function makeTarball(folder: string): void {
  const place = mkdtempSync(join(tmpdir(), "nbd-streaming-package-"));
  try {
    const clone = join(place, "clone");
    run(["git", "clone", "--quiet", "--shared", ROOT, clone]);
    symlinkSync(join(ROOT, "node_modules"), join(clone, "node_modules"));
    // Its scripts add what is not in the checkout: the bundles, and the completions.
    run([process.execPath, "pm", "pack", "--quiet", "--destination", folder], { cwd: clone });
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}
