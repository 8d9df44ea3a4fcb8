/** Sockets: recv(2), send(2), shutdown(2), socketpair(2). None of the calls waits. */
import type { Pointer } from "bun:ffi";
import {
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "./constants.ts";
import { checked, interrupted } from "./errno.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

/** recv(2). @returns bytes received, 0 when the peer has finished, or WOULD_BLOCK */
export function recv(fd: number, address: Pointer, length: number): number {
  let n: number;
  do n = Number(libc.recv(fd, address, length, MSG_DONTWAIT));
  while (n < 0 && interrupted("recv"));
  return n;
}

/** send(2); a peer that is gone is EPIPE, not SIGPIPE. @returns bytes sent, or WOULD_BLOCK */
export function send(fd: number, address: Pointer, length: number): number {
  let n: number;
  do n = Number(libc.send(fd, address, length, MSG_DONTWAIT | MSG_NOSIGNAL));
  while (n < 0 && interrupted("send"));
  return n;
}

/** Tells the peer that nothing more will be sent (shutdown(2), SHUT_WR). */
export function shutdownWrite(fd: number): void {
  checked("shutdown", () => libc.shutdown(fd, SHUT_WR));
}

/** A connected pair of non-blocking Unix stream sockets, close-on-exec (socketpair(2)). */
export function socketpair(): [number, number] {
  const pair = new Memory(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  checked("socketpair", () => libc.socketpair(AF_UNIX, type, 0, pair.at(0)));
  return [pair.view.getInt32(0, true), pair.view.getInt32(4, true)];
}
