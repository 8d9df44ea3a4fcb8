/** Makes what docs/ and man/ say of the command line anew, from the definitions behind `--help`. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { manual, outlineOf } from "../src/cli/documents.ts";
import { program } from "../src/cli/main.ts";
import { PROSE } from "../src/cli/prose.ts";
import { renewed } from "../src/reference/markdown.ts";

const ROOT = join(import.meta.dir, "..");

/** Each page as it has to be, by its path from the top folder of the project. */
export function referencePages(): Record<string, string> {
  const outline = outlineOf(program);
  const page = "docs/command-line.md";
  return {
    "man/nbd-streaming.1": manual(outline),
    [page]: renewed(readFileSync(join(ROOT, page), "utf8"), outline, PROSE),
  };
}

if (import.meta.main) {
  mkdirSync(join(ROOT, "man"), { recursive: true });
  for (const [name, text] of Object.entries(referencePages())) {
    writeFileSync(join(ROOT, name), text);
  }
}
