/** The listening socket. */
import type { SocketHandler, TCPSocketListener, UnixSocketListener } from "bun";
import { statSync } from "node:fs";
import { dup } from "../../ffi/fd.ts";
import { boundAddress } from "../../ffi/socket.ts";
import { messageOf, UserError } from "../errors.ts";
import { type Address, type Entrance, MAX_SOCKET_PATH } from "./address.ts";
import type { Session } from "./session.ts";

const STDIN = 0;

/** A client that has said its last word (close_notify, shutdown(2)) still takes answers. */
const allowHalfOpen = true;

/** Accepts connections until {@link close}. */
export class Listener {
  /**
   * Where it listens, the port being the real one even if 0 was asked for; undefined where nobody
   * can find it.
   */
  readonly address: Address | undefined;
  readonly #listener: TCPSocketListener<Session> | UnixSocketListener<Session> | undefined;

  /** @throws UserError when the address is not to be had */
  constructor(entrance: Entrance, socket: SocketHandler<Session>) {
    switch (entrance.kind) {
      case "unix":
        this.#listener = listenUnix(entrance.path, socket);
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
        // Bun's types do not know of this form.
        this.#listener = Bun.listen<Session>({ fd: entrance.fd, socket, allowHalfOpen } as never);
        break;
      case "single":
        // The rest of the program keeps its standard input, and the client its end.
        void Bun.connect<Session>({ fd: dup(STDIN), socket, allowHalfOpen } as never);
    }
  }

  /** Stops listening, and removes the socket file. */
  close(): void {
    this.#listener?.stop(false);
  }
}

function listenUnix(path: string, socket: SocketHandler<Session>): UnixSocketListener<Session> {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH) {
    throw new UserError(
      "ERR_LISTEN",
      `cannot listen on ${path}: the path has ${length} bytes, a Unix socket's at most ` +
        `${MAX_SOCKET_PATH}; choose a shorter one`,
    );
  }
  try {
    return Bun.listen<Session>({ unix: path, socket, allowHalfOpen });
  } catch (error) {
    const there = statSync(path, { throwIfNoEntry: false });
    const inUse =
      there?.isSocket() === false
        ? "it is there, and is no socket: choose another path"
        : "another server uses it, or has left it behind: remove it";
    throw listenError(path, error, inUse);
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
    throw listenError(
      `${host} port ${port}`,
      error,
      "another server uses it: choose another port with -p",
    );
  }
}

function listenError(where: string, error: unknown, inUse: string): UserError {
  const reasons: Record<string, string> = {
    EADDRINUSE: inUse,
    EADDRNOTAVAIL: "this machine does not have the address: check -i",
    EACCES: "no permission; choose another place",
    EPERM: "no permission; choose another place",
    ENOENT: "the folder does not exist: make it first",
    ENOTDIR: "the folder does not exist: make it first",
  };
  const code = (error as { code?: string }).code ?? "";
  const reason = reasons[code] ?? `${messageOf(error)}; check the address`;
  return new UserError("ERR_LISTEN", `cannot listen on ${where}: ${reason}`);
}
