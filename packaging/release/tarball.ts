/** The npm package. */
import { VERSION } from "../files/about.ts";
import { run } from "./commit.ts";

export const TARBALL = `nbd-streaming-${VERSION}.tgz`;

/** Makes it in a folder; the scripts of package.json add what is not in the checkout. */
export function makeTarball(folder: string): void {
  run([process.execPath, "pm", "pack", "--quiet", "--destination", folder]);
}
