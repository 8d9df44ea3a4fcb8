/** A folder with programs that use the project as a package. */
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./program.ts";

/** Makes `node_modules` in a folder, as an installation would, types included. */
export function linkPackage(folder: string): void {
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  symlinkSync(ROOT, join(modules, "nbd-streaming"));
  for (const name of ["bun-types", "@types"]) {
    symlinkSync(join(ROOT, "node_modules", name), join(modules, name));
  }
}
