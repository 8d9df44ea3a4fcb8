/** Sockets that systemd or inetd passes (sd_listen_fds(3)), and readiness (sd_notify(3)). */
import { fstatSync } from "node:fs";
import { STDIN_FILENO } from "../ffi/constants.ts";
import { closeOnExec } from "../ffi/fd.ts";
import { abstractAddress, isListening, sendDatagram, unixAddress } from "../ffi/socket.ts";
import { messageOf, UserError } from "./errors.ts";
import type { Log } from "./log.ts";
import { NoticeError } from "./messages/notice-error.ts";

/** The first passed descriptor. */
const SD_LISTEN_FDS_START = 3;

/**
 * Takes the listening socket that systemd, nbdcopy or a similar program has passed, and removes its
 * variables from the environment, which children must not inherit.
 *
 * @returns the descriptor; undefined when none was passed
 * @throws UserError when it is not exactly one listening socket
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

/** @throws UserError when standard input is no connected socket */
export function requireClient(): void {
  if (!isSocket(STDIN_FILENO)) {
    throw new NoticeError("ERR_LISTEN", { code: "NO_CLIENT", listens: false });
  }
  if (isListening(STDIN_FILENO)) {
    throw new NoticeError("ERR_LISTEN", { code: "NO_CLIENT", listens: true });
  }
}

/** @throws UserError when the descriptor is no listening socket */
export function requireListening(fd: number): void {
  requireSocket(fd, `descriptor ${fd}`);
  if (isListening(fd)) return;
  throw new UserError("ERR_LISTEN", `descriptor ${fd} is a socket that does not listen`);
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
    // Not open.
    return false;
  }
}

/** Sends a state to the socket of NOTIFY_SOCKET, if that is set. */
export function notify(state: "READY=1" | "STOPPING=1", log: Log): void {
  const socket = process.env.NOTIFY_SOCKET;
  if (socket === undefined || socket === "") return;
  const address = socket.startsWith("@") ? abstractAddress(socket.slice(1)) : unixAddress(socket);
  try {
    sendDatagram(address, Buffer.from(state));
  } catch (error) {
    log.warn(`cannot tell the service manager ${state}: ${messageOf(error)}`);
  }
}
