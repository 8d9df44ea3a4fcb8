/** Passing a connection from Bun's event loop to the stream thread. */
import type { Socket } from "bun";
import { dup } from "../../ffi/fd.ts";

/** Bun's sockets have this property, but its types do not tell. */
interface WithDescriptor {
  readonly fd: number;
}

/**
 * Takes the descriptor out of a paused socket and retires the socket.
 *
 * The copy is made first, so the close that follows ends nothing: the peer notices nothing, and
 * only the copy is left. Until then Bun owns the connection, afterwards the caller does.
 *
 * @returns a non-blocking descriptor for the connection
 * @throws SyscallError when no descriptor is to be had (EMFILE); the socket is as it was
 */
export function takeDescriptor<Data>(socket: Socket<Data>): number {
  const fd = dup((socket as unknown as WithDescriptor).fd);
  // Neither end() nor terminate(): the first may shut the connection down for both descriptors, the
  // second makes the kernel reset it when the copy is closed.
  (socket as unknown as { close(): void }).close();
  return fd;
}
