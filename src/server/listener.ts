/** The listening socket, and the sessions that come in through it. */
import type { SocketHandler, TCPSocketListener, UnixSocketListener } from "bun";
import { messageOf, UserError } from "../errors.ts";
import type { ExportInfo } from "../protocol/export.ts";
import { type Address, MAX_SOCKET_PATH } from "./address.ts";
import { Session, type SessionEvents } from "./session.ts";

/** Seconds of silence after which the kernel asks a TCP client whether it is still there. */
const KEEPALIVE = 30;

/** Accepts connections and negotiates with them until {@link close}. */
export class Listener {
  /** Where it listens; the port is the real one even if 0 was asked for. */
  readonly address: Address;
  readonly #listener: TCPSocketListener<Session> | UnixSocketListener<Session>;
  readonly #sessions = new Set<Session>();

  /** @throws UserError when the address is not to be had */
  constructor(address: Address, info: ExportInfo, events: SessionEvents) {
    const socket = handler(info, events, this.#sessions);
    if (address.kind === "unix") {
      this.#listener = listenUnix(address.path, socket);
      this.address = address;
    } else {
      const listener = listenTcp(address.host, address.port, socket);
      this.#listener = listener;
      this.address = { ...address, port: listener.port };
    }
  }

  /** Stops listening, removes the socket file, and ends what is still negotiating. */
  close(): void {
    for (const session of this.#sessions) session.socket.terminate();
    this.#listener.stop(true);
  }
}

function handler(
  info: ExportInfo,
  events: SessionEvents,
  sessions: Set<Session>,
): SocketHandler<Session> {
  return {
    open(socket) {
      const session = new Session(socket, info, events);
      socket.data = session;
      sessions.add(session);
      socket.setNoDelay?.(true);
      socket.setKeepAlive?.(true, KEEPALIVE * 1000);
      session.start();
    },
    data(socket, chunk) {
      socket.data.data(chunk);
    },
    drain(socket) {
      socket.data.drain();
    },
    end(socket) {
      socket.end();
    },
    error() {
      // `close` follows, and says all there is to say.
    },
    close(socket) {
      sessions.delete(socket.data);
      socket.data.closed();
    },
  };
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
    return Bun.listen<Session>({ unix: path, socket });
  } catch (error) {
    throw listenError(path, error, "another server uses it, or has left it behind: remove it");
  }
}

function listenTcp(
  host: string,
  port: number,
  socket: SocketHandler<Session>,
): TCPSocketListener<Session> {
  try {
    return Bun.listen<Session>({ hostname: host, port, socket });
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
