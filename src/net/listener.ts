/** The listening socket. */
import type { SocketHandler, SocketListener, TCPSocketListener } from "bun";
import { statSync } from "node:fs";
import { POLLIN } from "../../ffi/constants.ts";
import { close, dup } from "../../ffi/fd.ts";
import { PollSet } from "../../ffi/poll.ts";
import { boundAddress, listen, unixAddress } from "../../ffi/socket.ts";
import { messageOf, UserError } from "../errors.ts";
import { FileId } from "../files/file-id.ts";
import { NoticeError } from "../messages/notice-error.ts";
import { type Address, type Entrance, MAX_SOCKET_PATH } from "./address.ts";
import type { Session } from "./session.ts";

const STDIN = 0;

/** Connections that may wait until the main thread has time for them; as many as Bun.listen() has. */
const BACKLOG = 512;

/** A client that has said its last word (close_notify, shutdown(2)) still takes answers. */
const allowHalfOpen = true;

/** Accepts connections until {@link close}. */
export class Listener {
  /**
   * Where it listens, the port being the real one even if 0 was asked for; undefined where nobody
   * can find it.
   */
  readonly address: Address | undefined;
  readonly #listener: SocketListener<Session> | undefined;
  /** What listening on a Unix socket has made. */
  readonly #file: FileId | undefined;

  /** @throws UserError when the address is not to be had */
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
        // The rest of the program keeps its standard input, and the client its end.
        void Bun.connect<Session>({ fd: dup(STDIN), socket, allowHalfOpen } as never);
    }
  }

  /** True when somebody is connected, as far as the kernel is concerned, who was not accepted yet. */
  get hasWaiting(): boolean {
    // Bun's types do not tell of this property.
    const { fd } = (this.#listener ?? { fd: -1 }) as unknown as { readonly fd: number };
    if (fd < 0) return false;
    const poll = new PollSet();
    poll.add(fd, POLLIN);
    return poll.wait(0) > 0;
  }

  /** Stops listening, and removes the socket file if it is still the one that was made. */
  close(): void {
    // Only now: while the socket is open, no other file gets its inode number.
    this.#file?.remove();
    this.#listener?.stop(false);
  }
}

/** Takes connections from a socket that listens already, which Bun closes at the end. */
function listenOn(fd: number, socket: SocketHandler<Session>): SocketListener<Session> {
  // Bun's types do not know of this form.
  return Bun.listen<Session>({ fd, socket, allowHalfOpen } as never);
}

/** Bun.listen({ unix }) would in the end unlink whatever has the path by then. */
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
    const there = statSync(path, { throwIfNoEntry: false });
    throw listenError(path, error, there?.isSocket() === false ? "file" : "socket");
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
