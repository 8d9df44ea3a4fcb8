/** The licences of what is in the program beside its own sources, which have to go with it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };

const MODULES = join(import.meta.dir, "../../node_modules");

/** Those of the packages that the bundles contain. */
export function licencesOfPackages(): string {
  const parts = Object.keys(packageJson.dependencies).map((name) => {
    const text = readFileSync(join(MODULES, name, "LICENSE"), "utf8");
    return `${name}\n${"=".repeat(name.length)}\n\n${text.trim()}\n`;
  });
  return `The program contains these packages.\n\n${parts.join("\n")}`;
}

/** With that of Bun, which a binary contains, too. */
export function licencesOfBinary(): string {
  // Bun's own page, which its types bring along.
  const page = readFileSync(join(MODULES, "bun-types/docs/project/license.mdx"), "utf8");
  const text = page.replace(/^---\n.*?\n---\n/s, "").trim();
  return `${licencesOfPackages()}\nBun\n===\n\nThe binary contains Bun.\n\n${text}\n`;
}
