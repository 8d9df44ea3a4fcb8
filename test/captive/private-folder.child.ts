/** A process that makes its private folder and removes it; says on stdout how that went. */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { PrivateFolder } from "../../src/captive/private-folder.ts";
import { UserError } from "../../src/errors.ts";

try {
  const folder = new PrivateFolder();
  const { socket } = folder;
  const existed = existsSync(dirname(socket));
  folder.remove();
  console.log(JSON.stringify({ socket, existed, exists: existsSync(dirname(socket)) }));
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.log(JSON.stringify({ code: error.code, text: error.message }));
}
