/** Socket information from netlink (sock_diag(7)). */
import {
  AF_NETLINK,
  AF_UNIX,
  NETLINK_SOCK_DIAG,
  NLM_F_REQUEST,
  SOCK_CLOEXEC,
  SOCK_DIAG_BY_FAMILY,
  SOCK_RAW,
  UDIAG_SHOW_PEER,
  UNIX_DIAG_PEER,
} from "./constants.ts";
import { checked, SyscallError } from "./errno.ts";
import { close } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";
import { recv, send } from "./socket.ts";

/** `struct nlmsghdr` */
const HEADER_SIZE = 16;
/** `struct unix_diag_req` */
const REQUEST_SIZE = 24;
/** `struct unix_diag_msg`; attributes follow. */
const MESSAGE_SIZE = 16;
/** `struct rtattr` */
const ATTRIBUTE_SIZE = 4;

/**
 * Finds the socket that a Unix socket is connected to.
 *
 * @param inode from fstat(2)
 * @returns the peer's inode; undefined if there is no peer, or the kernel does not tell
 */
export function unixPeer(inode: number): number | undefined {
  try {
    const fd = checked("socket", () =>
      libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG),
    );
    try {
      const request = encodeRequest(inode);
      send(fd, request.at(0), request.length);
      // The kernel has answered when send(2) returns.
      const answer = new Memory(4096);
      return peerIn(answer.view, recv(fd, answer.at(0), answer.length));
    } finally {
      close(fd);
    }
  } catch (error) {
    // A sandbox may forbid sock_diag, or the kernel may lack it.
    if (!(error instanceof SyscallError)) throw error;
    return undefined;
  }
}

function encodeRequest(inode: number): Memory {
  const memory = new Memory(HEADER_SIZE + REQUEST_SIZE);
  const { view } = memory;
  view.setUint32(0, memory.length, true);
  view.setUint16(4, SOCK_DIAG_BY_FAMILY, true);
  view.setUint16(6, NLM_F_REQUEST, true);
  view.setUint8(HEADER_SIZE, AF_UNIX);
  // In any state, and by the inode with any cookie.
  view.setUint32(HEADER_SIZE + 4, 0xffff_ffff, true);
  view.setUint32(HEADER_SIZE + 8, inode, true);
  view.setUint32(HEADER_SIZE + 12, UDIAG_SHOW_PEER, true);
  view.setUint32(HEADER_SIZE + 16, 0xffff_ffff, true);
  view.setUint32(HEADER_SIZE + 20, 0xffff_ffff, true);
  return memory;
}

function peerIn(view: DataView, length: number): number | undefined {
  if (length < HEADER_SIZE || view.getUint16(4, true) !== SOCK_DIAG_BY_FAMILY) return undefined;
  const end = Math.min(length, view.getUint32(0, true));
  for (let at = HEADER_SIZE + MESSAGE_SIZE; at + ATTRIBUTE_SIZE <= end;) {
    const size = view.getUint16(at, true);
    if (view.getUint16(at + 2, true) === UNIX_DIAG_PEER) {
      return view.getUint32(at + ATTRIBUTE_SIZE, true) || undefined;
    }
    // RTA_ALIGN
    at += Math.max(ATTRIBUTE_SIZE, (size + 3) & ~3);
  }
  return undefined;
}
