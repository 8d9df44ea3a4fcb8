/** Sockets: socket(2), bind(2), connect(2), recv(2), send(2) and their kin. None of the calls waits. */
import type { Pointer } from "bun:ffi";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  ERRNO,
  IPPROTO_TCP,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SHUT_RDWR,
  SHUT_WR,
  SIOCOUTQ,
  SO_ACCEPTCONN,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_DOMAIN,
  SO_ERROR,
  SO_SNDBUF,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_USER_TIMEOUT,
} from "./constants.ts";
import { checked, interrupted, lastErrno, SyscallError } from "./errno.ts";
import { close } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

/**
 * recv(2).
 *
 * @param flags MSG_PEEK to leave the bytes where they are, or 0
 * @returns bytes received, 0 when the peer has finished, or WOULD_BLOCK
 */
export function recv(fd: number, address: Pointer, length: number, flags = 0): number {
  let n: number;
  do n = Number(libc.recv(fd, address, length, flags | MSG_DONTWAIT));
  while (n < 0 && interrupted("recv"));
  return n;
}

/**
 * send(2); a peer that is gone is EPIPE, not SIGPIPE.
 *
 * @param flags MSG_MORE when what follows at once may go in the same packet, or 0
 * @returns bytes sent, or WOULD_BLOCK
 */
export function send(fd: number, address: Pointer, length: number, flags = 0): number {
  let n: number;
  do n = Number(libc.send(fd, address, length, flags | MSG_DONTWAIT | MSG_NOSIGNAL));
  while (n < 0 && interrupted("send"));
  return n;
}

const int = new Memory(4);
const intLength = new Memory(4);

/** Bytes sent that the peer (a Unix socket's) or its kernel (TCP) has not taken yet (tcp(7)). */
export function bytesUnsent(fd: number): number {
  checked("ioctl", () => libc.ioctl(fd, SIOCOUTQ, int.at(0)));
  return int.view.getInt32(0, true);
}

/**
 * Begins to connect a new non-blocking stream socket (connect(2)). It is writable once it is
 * connected or has failed: {@link socketError} tells which.
 *
 * @param address a `struct sockaddr` of {@link unixAddress} or {@link internetAddress}
 * @returns the descriptor, close-on-exec
 * @throws SyscallError when it fails at once
 */
export function connect(address: Uint8Array, subject: string): number {
  const memory = new Memory(address);
  const tree = memory.view.getUint16(0, true);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = checked("socket", () => libc.socket(tree, type, 0), subject);
  if (libc.connect(fd, memory.at(0), memory.length) === 0) return fd;
  const errno = lastErrno();
  // After EINTR the connection is set up in the background, as after EINPROGRESS.
  if (errno === ERRNO.EINPROGRESS || errno === ERRNO.EINTR) return fd;
  close(fd);
  throw new SyscallError("connect", errno, subject);
}

/**
 * A stream socket that takes connections at `address`, non-blocking and close-on-exec (bind(2),
 * listen(2)). That of a Unix socket makes its file, with the permissions that umask(2) leaves.
 *
 * @param backlog connections that may wait to be accepted; the kernel has a limit of its own
 * @throws SyscallError
 */
export function listen(address: Uint8Array, backlog: number, subject: string): number {
  const memory = new Memory(address);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const tree = memory.view.getUint16(0, true);
  const fd = checked("socket", () => libc.socket(tree, type, 0), subject);
  try {
    checked("bind", () => libc.bind(fd, memory.at(0), memory.length), subject);
    checked("listen", () => libc.listen(fd, backlog), subject);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/**
 * What has become of a connection, or of the attempt to make it: 0, or the errno that it failed with
 * (SO_ERROR, socket(7)). The kernel tells each failure once, whether it is asked or a call fails by it.
 */
export function socketError(fd: number): number {
  return option(fd, SO_ERROR);
}

/** True for a socket of this machine (unix(7), SO_DOMAIN). */
export function isUnix(fd: number): boolean {
  return option(fd, SO_DOMAIN) === AF_UNIX;
}

/** True for a socket that carries bytes in order, and not messages (SOCK_STREAM, SO_TYPE). */
export function isStream(fd: number): boolean {
  return option(fd, SO_TYPE) === SOCK_STREAM;
}

/** True for a socket that takes connections: listen(2) was called for it (SO_ACCEPTCONN). */
export function isListening(fd: number): boolean {
  return option(fd, SO_ACCEPTCONN) !== 0;
}

function option(fd: number, name: number): number {
  intLength.view.setUint32(0, 4, true);
  checked("getsockopt", () => libc.getsockopt(fd, SOL_SOCKET, name, int.at(0), intLength.at(0)));
  return int.view.getInt32(0, true);
}

/**
 * Lets the kernel hold up to `length` bytes that the peer has not taken yet (SO_SNDBUF, socket(7)).
 * The kernel grants at most its own limit, without a word.
 */
export function growSendBuffer(fd: number, length: number): void {
  int.view.setInt32(0, length, true);
  checked("setsockopt", () => libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, int.at(0), 4));
}

const linger = new Memory(8);

/**
 * Whether closing a TCP connection resets it, so that the peer sees an error and no end, as after
 * SO_LINGER with no time (socket(7)). It holds for the end of the process, too, however that comes.
 * Does nothing to other sockets.
 */
export function resetOnClose(fd: number, on: boolean): void {
  linger.view.setInt32(0, on ? 1 : 0, true);
  linger.view.setInt32(4, 0, true);
  checked("setsockopt", () => libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger.at(0), 8));
}

/** Probes without an answer after which a TCP peer is taken for dead. */
const KEEPALIVE_PROBES = 2;

/**
 * Has the kernel end a TCP connection whose peer does not answer for `seconds`, whether it owes an
 * acknowledgement (TCP_USER_TIMEOUT) or has nothing to say (SO_KEEPALIVE; tcp(7), socket(7)). Does
 * nothing to other sockets, whose peers are on this machine.
 */
export function noticeDeadPeer(fd: number, seconds: number): void {
  const set = (level: number, name: number, value: number) => {
    int.view.setInt32(0, value, true);
    return libc.setsockopt(fd, level, name, int.at(0), 4) === 0;
  };
  if (!set(IPPROTO_TCP, TCP_USER_TIMEOUT, Math.ceil(seconds * 1000))) return;
  const whole = (part: number) => Math.max(1, Math.floor(part));
  set(IPPROTO_TCP, TCP_KEEPIDLE, whole(seconds / 2));
  set(IPPROTO_TCP, TCP_KEEPINTVL, whole(seconds / 2 / KEEPALIVE_PROBES));
  set(IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

/** Where a socket is bound, or the one that it is connected to. */
export type BoundAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

const SOCKADDR_STORAGE_SIZE = 128;

/**
 * Where a Unix or TCP socket is bound (getsockname(2)); undefined for others and for one without a
 * name.
 */
export function boundAddress(fd: number): BoundAddress | undefined {
  return address("getsockname", fd);
}

/**
 * The same of the socket that it is connected to (getpeername(2)).
 *
 * @throws SyscallError ENOTCONN when there is none
 */
export function peerAddress(fd: number): BoundAddress | undefined {
  return address("getpeername", fd);
}

function address(call: "getsockname" | "getpeername", fd: number): BoundAddress | undefined {
  const memory = new Memory(SOCKADDR_STORAGE_SIZE);
  const { view, bytes } = memory;
  intLength.view.setUint32(0, SOCKADDR_STORAGE_SIZE, true);
  checked(call, () => libc[call](fd, memory.at(0), intLength.at(0)));
  const tree = view.getUint16(0, true);
  if (tree === AF_UNIX) {
    const end = bytes.indexOf(0, 2);
    const path = Buffer.from(bytes.subarray(2, end)).toString();
    return path === "" ? undefined : { kind: "unix", path };
  }
  const port = view.getUint16(2);
  if (tree === AF_INET) return { kind: "tcp", host: bytes.subarray(4, 8).join("."), port };
  if (tree !== AF_INET6) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(8 + 2 * i).toString(16));
  return { kind: "tcp", host: groups.join(":"), port };
}

/** Sends one datagram to a Unix socket. @throws SyscallError */
export function sendDatagram(address: Uint8Array, bytes: Uint8Array): void {
  const memory = new Memory(address);
  const fd = checked("socket", () => libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    checked("connect", () => libc.connect(fd, memory.at(0), memory.length));
    send(fd, new Memory(bytes).at(0), bytes.length);
  } finally {
    close(fd);
  }
}

/** `struct sockaddr_un` for a name without a place in the file system (unix(7), "abstract"). */
export function abstractAddress(name: string): Uint8Array {
  const bytes = Buffer.alloc(3 + Buffer.byteLength(name));
  bytes.writeUInt16LE(AF_UNIX, 0);
  bytes.write(name, 3);
  return bytes;
}

/** `struct sockaddr_un` for a path of at most 107 bytes (unix(7)). */
export function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(path);
  const bytes = Buffer.alloc(2 + name.length + 1);
  bytes.writeUInt16LE(AF_UNIX, 0);
  bytes.set(name, 2);
  return bytes;
}

/**
 * `struct sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
 *
 * @param address 4 or 16 bytes in network order
 */
export function internetAddress(address: Uint8Array, port: number): Uint8Array {
  const v6 = address.length === 16;
  const bytes = Buffer.alloc(v6 ? 28 : 16);
  bytes.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address, v6 ? 8 : 4);
  return bytes;
}

/** Tells the peer that nothing more will be sent (shutdown(2), SHUT_WR). */
export function shutdownWrite(fd: number): void {
  checked("shutdown", () => libc.shutdown(fd, SHUT_WR));
}

/** Ends a connection both ways, whoever else has a descriptor of it (shutdown(2), SHUT_RDWR). */
export function shutdown(fd: number): void {
  // One that the peer has reset is not connected any more: that is as good.
  libc.shutdown(fd, SHUT_RDWR);
}

/** A connected pair of non-blocking Unix stream sockets, close-on-exec (socketpair(2)). */
export function socketpair(): [number, number] {
  const pair = new Memory(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  checked("socketpair", () => libc.socketpair(AF_UNIX, type, 0, pair.at(0)));
  return [pair.view.getInt32(0, true), pair.view.getInt32(4, true)];
}
