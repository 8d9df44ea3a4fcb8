/** Sockets: socket(2), bind(2), connect(2), recv(2), send(2) and others. None of the calls blocks. */
import { type Pointer, ptr } from "bun:ffi";
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
 * @param flags MSG_PEEK to leave the bytes in the socket, or 0
 * @returns bytes received, 0 when the peer has finished, or WOULD_BLOCK
 */
export function recv(fd: number, address: Pointer, length: number, flags = 0): number {
  let n: number;
  do n = Number(libc.recv(fd, address, length, flags | MSG_DONTWAIT));
  while (n < 0 && interrupted("recv"));
  return n;
}

/**
 * send(2); fails with EPIPE, without SIGPIPE, when the peer is gone.
 *
 * @param flags MSG_MORE when more data follows at once, for the same packet, or 0
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
 * Starts to connect a new non-blocking stream socket (connect(2)). It becomes writable when it is
 * connected or has failed; {@link socketError} then tells which.
 *
 * @param address a `struct sockaddr` of {@link unixAddress} or {@link internetAddress}
 * @returns the descriptor, close-on-exec
 * @throws SyscallError when it fails at once
 */
export function connect(address: Uint8Array, subject: string): number {
  const memory = new Memory(address);
  const family = memory.view.getUint16(0, true);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = checked("socket", () => libc.socket(family, type, 0), subject);
  if (libc.connect(fd, memory.at(0), memory.length) === 0) return fd;
  const errno = lastErrno();
  // After EINTR the connection is set up in the background, as after EINPROGRESS.
  if (errno === ERRNO.EINPROGRESS || errno === ERRNO.EINTR) return fd;
  close(fd);
  throw new SyscallError("connect", errno, subject);
}

/**
 * Makes a listening stream socket, non-blocking and close-on-exec (bind(2), listen(2)). A Unix socket's
 * file gets the permissions that umask(2) leaves.
 *
 * @param backlog connections that may wait to be accepted, up to the kernel's limit
 * @throws SyscallError
 */
export function listen(address: Uint8Array, backlog: number, subject: string): number {
  const memory = new Memory(address);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const family = memory.view.getUint16(0, true);
  const fd = checked("socket", () => libc.socket(family, type, 0), subject);
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
 * The pending error of a connection, or of the attempt to connect: an errno, or 0 (SO_ERROR,
 * socket(7)). The kernel reports each error once, either here or by a call that fails.
 */
export function socketError(fd: number): number {
  return option(fd, SO_ERROR);
}

/** True for a Unix socket (unix(7), SO_DOMAIN). */
export function isUnix(fd: number): boolean {
  return option(fd, SO_DOMAIN) === AF_UNIX;
}

/** True for a stream socket (SOCK_STREAM, SO_TYPE). */
export function isStream(fd: number): boolean {
  return option(fd, SO_TYPE) === SOCK_STREAM;
}

/** True for a listening socket (SO_ACCEPTCONN). */
export function isListening(fd: number): boolean {
  return option(fd, SO_ACCEPTCONN) !== 0;
}

function option(fd: number, name: number): number {
  intLength.view.setUint32(0, 4, true);
  checked("getsockopt", () => libc.getsockopt(fd, SOL_SOCKET, name, int.at(0), intLength.at(0)));
  return int.view.getInt32(0, true);
}

/**
 * Lets the kernel hold up to `length` bytes that the peer has not taken yet (SO_SNDBUF, socket(7)). The
 * kernel silently applies its own limit.
 */
export function growSendBuffer(fd: number, length: number): void {
  int.view.setInt32(0, length, true);
  checked("setsockopt", () => libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, int.at(0), 4));
}

const linger = new Memory(8);

/**
 * Sets whether closing a TCP connection resets it, so that the peer sees an error and not the end
 * (SO_LINGER with a time of 0, socket(7)). This also applies when the process ends in any way. Does
 * nothing to other sockets.
 */
export function resetOnClose(fd: number, on: boolean): void {
  linger.view.setInt32(0, on ? 1 : 0, true);
  linger.view.setInt32(4, 0, true);
  checked("setsockopt", () => libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger.at(0), 8));
}

/** The unanswered probes after which a TCP peer counts as dead. */
const KEEPALIVE_PROBES = 2;

/**
 * Makes the kernel end a TCP connection whose peer does not respond for `seconds`: to data
 * (TCP_USER_TIMEOUT), or to probes while the connection is idle (SO_KEEPALIVE; tcp(7), socket(7)). Does
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

/** The address of a socket or of its peer. */
export type BoundAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

const SOCKADDR_STORAGE_SIZE = 128;

/** The address of a Unix or TCP socket (getsockname(2)); undefined for others and for an unbound one. */
export function boundAddress(fd: number): BoundAddress | undefined {
  return addressBy("getsockname", fd);
}

/**
 * The address of the peer of a Unix or TCP socket (getpeername(2)); undefined for others and for an
 * unbound one.
 *
 * @throws SyscallError ENOTCONN without a peer
 */
export function peerAddress(fd: number): BoundAddress | undefined {
  return addressBy("getpeername", fd);
}

function addressBy(call: "getsockname" | "getpeername", fd: number): BoundAddress | undefined {
  const memory = new Memory(SOCKADDR_STORAGE_SIZE);
  const { view, bytes } = memory;
  intLength.view.setUint32(0, SOCKADDR_STORAGE_SIZE, true);
  checked(call, () => libc[call](fd, memory.at(0), intLength.at(0)));
  const family = view.getUint16(0, true);
  if (family === AF_UNIX) {
    const end = bytes.indexOf(0, 2);
    const path = Buffer.from(bytes.subarray(2, end)).toString();
    return path === "" ? undefined : { kind: "unix", path };
  }
  const port = view.getUint16(2);
  if (family === AF_INET) return { kind: "tcp", host: bytes.subarray(4, 8).join("."), port };
  if (family !== AF_INET6) return undefined;
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

/** `struct sockaddr_un` for an abstract name (unix(7)). */
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
 * An IPv4 or IPv6 address from its text (inet_pton(3)), without the scope of a link-local one.
 *
 * @returns 4 or 16 bytes in network order; undefined for another text, such as a name
 */
export function addressBytes(text: string): Uint8Array | undefined {
  const bytes = new Memory(16);
  const parse = (family: number, address: string) =>
    libc.inet_pton(family, ptr(Buffer.from(`${address}\0`)), bytes.at(0)) === 1;
  if (parse(AF_INET, text)) return bytes.bytes.subarray(0, 4);
  return parse(AF_INET6, text.replace(/%.*$/, "")) ? bytes.bytes : undefined;
}

/** True for the text of an IPv6 address. */
export function isIPv6(text: string): boolean {
  return addressBytes(text)?.length === 16;
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

/** Ends this side of a connection (shutdown(2), SHUT_WR). */
export function shutdownWrite(fd: number): void {
  checked("shutdown", () => libc.shutdown(fd, SHUT_WR));
}

/** Ends both sides of a connection, even if other descriptors of it are open (shutdown(2), SHUT_RDWR). */
export function shutdown(fd: number): void {
  // Fails with ENOTCONN after a reset, which is as good.
  libc.shutdown(fd, SHUT_RDWR);
}

/** A connected pair of non-blocking Unix stream sockets, close-on-exec (socketpair(2)). */
export function socketpair(): [number, number] {
  const pair = new Memory(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  checked("socketpair", () => libc.socketpair(AF_UNIX, type, 0, pair.at(0)));
  return [pair.view.getInt32(0, true), pair.view.getInt32(4, true)];
}
