/** The listening socket. */
import type { SocketHandler, SocketListener, TCPSocketListener } from "bun";
import { statSync } from "node:fs";
import { POLLIN, STDIN_FILENO } from "../../ffi/constants.ts";
import { close, dup } from "../../ffi/fd.ts";
import { pollOne } from "../../ffi/poll.ts";
import { boundAddress, listen, unixAddress } from "../../ffi/socket.ts";
import { messageOf, UserError } from "../errors.ts";
import { FileId } from "../files/file-id.ts";
import { NoticeError } from "../messages/notice-error.ts";
import { type Address, type Entrance, MAX_SOCKET_PATH } from "./address.ts";
import type { Session } from "./session.ts";

/** The backlog of listen(2), the same as Bun.listen()'s. */
const BACKLOG = 512;

/** A client that has ended its side (close_notify, shutdown(2)) can still take replies. */
const allowHalfOpen = true;

/** Accepts connections until {@link close}. */
export class Listener {
  /**
   * Where it listens, with the port that the kernel chose for 0; undefined for `--single` and for an
   * activated socket without an address.
   */
  readonly address: Address | undefined;
  readonly #listener: SocketListener<Session> | undefined;
  /** The file of a Unix socket. */
  readonly #file: FileId | undefined;

  /** @throws UserError when it cannot listen on the address */
  constructor(entrance: Entrance, socket: SocketHandler<Session>) {
    switch (entrance.kind) {
      case "unix":
        ({ listener: this.#listener, file: this.#file } = listenUnix(entrance.path, socket));
        this.address = entrance;
        break;
      case "tcp": {
        const listener = listenTcp(entrance.host, entrance.port, socket);
        this.#listener = listener;
        this.address = { ...entrance, port: listener.port };
        break;
      }
      case "activated":
        this.address = boundAddress(entrance.fd);
        this.#listener = listenOn(entrance.fd, socket);
        break;
      case "single":
        // A duplicate, so that standard input stays open when Bun closes its socket.
        void Bun.connect<Session>({ fd: dup(STDIN_FILENO), socket, allowHalfOpen } as never);
    }
  }

  /** True when a connection waits in the kernel's queue to be accepted. */
  get hasWaiting(): boolean {
    // Bun's types do not have this property.
    const { fd } = (this.#listener ?? { fd: -1 }) as unknown as { readonly fd: number };
    return fd >= 0 && pollOne(fd, POLLIN) !== 0;
  }

  /** Stops listening, and removes the socket file if it is still the one that was made. */
  close(): void {
    // Before the socket is closed: until then, no other file can have its inode number.
    this.#file?.remove();
    this.#listener?.stop(false);
  }
}

/** Accepts connections from a listening socket, which Bun then owns. */
function listenOn(fd: number, socket: SocketHandler<Session>): SocketListener<Session> {
  // Bun's types do not have this form.
  return Bun.listen<Session>({ fd, socket, allowHalfOpen } as never);
}

/** Makes the Unix socket without Bun.listen({ unix }), which would at the end unlink any file at the path. */
function listenUnix(
  path: string,
  socket: SocketHandler<Session>,
): { listener: SocketListener<Session>; file: FileId } {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH) {
    throw new UserError(
      "ERR_LISTEN",
      `cannot listen on ${path}: the path has ${length} bytes, a Unix socket's at most ` +
        `${MAX_SOCKET_PATH}; choose a shorter one`,
    );
  }
  if (path === "" || path.includes("\0")) {
    throw new UserError("ERR_LISTEN", `cannot listen on ${JSON.stringify(path)}: it is no path`);
  }
  let fd: number;
  try {
    fd = listen(unixAddress(path), BACKLOG, path);
  } catch (error) {
    const stats = statSync(path, { throwIfNoEntry: false });
    throw listenError(path, error, stats?.isSocket() === false ? "file" : "socket");
  }
  let file: FileId | undefined;
  try {
    file = new FileId(path);
    return { listener: listenOn(fd, socket), file };
  } catch (error) {
    file?.remove();
    close(fd);
    throw error;
  }
}

function listenTcp(
  host: string,
  port: number,
  socket: SocketHandler<Session>,
): TCPSocketListener<Session> {
  try {
    return Bun.listen<Session>({ hostname: host, port, socket, allowHalfOpen });
  } catch (error) {
    throw listenError(`${host} port ${port}`, error, "port");
  }
}

function listenError(where: string, error: unknown, at: "socket" | "port" | "file"): NoticeError {
  const { code } = error as { code?: string };
  const message = messageOf(error);
  return new NoticeError("ERR_LISTEN", { code: "CANNOT_LISTEN", where, at, error: code, message });
}
