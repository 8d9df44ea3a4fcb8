/** Sockets that the program was started with, instead of making its own (sd_listen_fds(3)). */
import { fstatSync } from "node:fs";
import { closeOnExec } from "../../ffi/fd.ts";
import { isListening } from "../../ffi/socket.ts";
import { UserError } from "../errors.ts";
import { NoticeError } from "../messages/notice-error.ts";

const STDIN = 0;

/** The first descriptor that is passed. */
const SD_LISTEN_FDS_START = 3;

/**
 * The listening socket that systemd, or nbdcopy and its kin, have passed. The variables that tell of
 * it are taken out of the environment: they are not for the program's children.
 *
 * @returns its descriptor; undefined when none was passed
 * @throws UserError when it was not one socket
 */
export function activatedSocket(environment: NodeJS.ProcessEnv): number | undefined {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = environment;
  if (pid === undefined || count === undefined || Number(pid) !== process.pid) return undefined;
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete environment[name];
  if (count !== "1") {
    throw new UserError(
      "ERR_LISTEN",
      `LISTEN_FDS=${count}: one socket is listened on; pass a single one (one Listen…= line)`,
    );
  }
  requireSocket(SD_LISTEN_FDS_START, "the descriptor that was passed by LISTEN_FDS");
  if (!isListening(SD_LISTEN_FDS_START)) {
    throw new UserError(
      "ERR_LISTEN",
      "the socket that was passed by LISTEN_FDS does not listen: pass one that does " +
        "(ListenStream=, and not Accept=yes)",
    );
  }
  closeOnExec(SD_LISTEN_FDS_START);
  return SD_LISTEN_FDS_START;
}

/** @throws UserError when standard input is not what a client is connected to */
export function requireClient(): void {
  if (!isSocket(STDIN)) throw new NoticeError("ERR_LISTEN", { code: "NO_CLIENT", listens: false });
  if (isListening(STDIN)) {
    throw new NoticeError("ERR_LISTEN", { code: "NO_CLIENT", listens: true });
  }
}

/** @throws UserError when the descriptor is no socket */
export function requireSocket(fd: number, name: string): void {
  if (isSocket(fd)) return;
  throw new UserError("ERR_LISTEN", `${name} is no socket: start the program by what passes one`);
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    // Not even open.
    return false;
  }
}
