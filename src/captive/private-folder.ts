/** A folder for the private socket. */
import { mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, UserError } from "../errors.ts";
import { FileId } from "../files/file-id.ts";
import { MAX_SOCKET_PATH } from "../net/address.ts";

const SOCKET = "nbd.sock";

/** A fresh folder of mode 0700 (mkdtemp(3)): other users cannot reach the socket. */
export class PrivateFolder {
  readonly #folder: FileId;

  /** @throws UserError when none can be made */
  constructor() {
    try {
      this.#folder = new FileId(mkdtempSync(join(base(), "nbd-streaming-")));
    } catch (error) {
      throw new UserError(
        "ERR_FILE",
        `cannot make a temporary folder: ${messageOf(error)}; set TMPDIR to one that is writable`,
      );
    }
  }

  /** The socket's path. */
  get socket(): string {
    return this.file(SOCKET);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  get path(): string {
    return this.#folder.path;
  }

  /** Returns what {@link FileId.removeTree} does. */
  remove(): string | undefined {
    if (!this.#folder.isThere) return undefined;
    try {
      // These need no descriptor, unlike reading the folder: there may be none left (EMFILE).
      rmSync(this.socket, { force: true });
      rmdirSync(this.path);
      return undefined;
    } catch {
      return this.#folder.removeTree();
    }
  }
}

/** TMPDIR, unless a socket's path in it would be too long. */
function base(): string {
  const folder = tmpdir();
  const longest = join(folder, "nbd-streaming-XXXXXX", SOCKET);
  return Buffer.byteLength(longest) <= MAX_SOCKET_PATH ? folder : "/tmp";
}
