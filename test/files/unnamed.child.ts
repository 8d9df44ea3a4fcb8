/** Makes a file without a name in a folder, and says what came of it. Arguments: the folder, and if it must punch. */
import { fstatSync, readdirSync } from "node:fs";
import { FolderError, makeUnnamed } from "../../src/files/unnamed.ts";

const [folder = "", mustPunch] = process.argv.slice(2);

function tried(): object {
  try {
    const { fd, ...can } = makeUnnamed(folder, mustPunch === "punch");
    const { mode, nlink, size, blocks } = fstatSync(fd);
    return { ...can, mode: mode & 0o777, nlink, size, blocks };
  } catch (error) {
    if (!(error instanceof FolderError)) throw error;
    return { why: error.message, hint: error.hint };
  }
}

const found = tried();
let left: string[] | undefined;
try {
  left = readdirSync(folder);
} catch {
  // It is no folder, or not for this user.
}
console.log(JSON.stringify({ ...found, left }));
