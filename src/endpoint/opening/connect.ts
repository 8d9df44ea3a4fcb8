/** Connects to an endpoint: `PATH` of a listening Unix socket, and `tcp:HOST:PORT`. */
import { ERRNO, POLLOUT } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { close } from "../../../ffi/fd.ts";
import { pollOne } from "../../../ffi/poll.ts";
import {
  addressBytes,
  connect,
  internetAddress,
  resetOnClose,
  socketError,
  unixAddress,
} from "../../../ffi/socket.ts";
import { type Direction, tcpName, UnusableError } from "../spec.ts";
import { type Endpoint, PLAIN } from "./endpoint.ts";

/** Milliseconds for a TCP connection to be established. */
const CONNECT_LIMIT = 10_000;
/** Milliseconds between two checks of it. */
const CONNECT_INTERVAL = 5;

/** @throws UnusableError */
export function connectUnix(path: string): Endpoint {
  try {
    return endpoint(path, connect(unixAddress(path), path));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new UnusableError(
      `nobody can be reached there (${error.message})`,
      "start the program that listens on it first",
    );
  }
}

/**
 * Connects to the first address of the host that answers. For a sink, closing the connection resets it
 * from here on: the stream may fail before the sink is open.
 *
 * @param stop aborts the attempt
 * @throws UnusableError
 */
export async function connectTcp(
  host: string,
  port: number,
  direction: Direction,
  stop?: AbortSignal,
): Promise<Endpoint> {
  const name = tcpName(host, port);
  const hint = "check host and port, and start the program that listens there first";
  let why = "it has no address";
  for (const address of await addressesUntil(host, stop)) {
    if (stop?.aborted === true) break;
    try {
      const fd = connect(internetAddress(addressBytes(address) as Uint8Array, port), name);
      if (direction === "write") resetOnClose(fd, true);
      const errno = await connected(fd, stop);
      if (errno === 0) return endpoint(name, fd);
      close(fd);
      throw new SyscallError("connect", errno);
    } catch (error) {
      why = `nobody answers there (${(error as Error).message})`;
    }
  }
  throw new UnusableError(why, hint);
}

/** The same as {@link addressesOf}; none if `stop` is aborted first: a name server may not answer for long. */
async function addressesUntil(host: string, stop: AbortSignal | undefined): Promise<string[]> {
  const addresses = addressesOf(host);
  if (stop === undefined) return await addresses;
  const stopped = Promise.withResolvers<string[]>();
  const abort = () => stopped.resolve([]);
  stop.addEventListener("abort", abort);
  if (stop.aborted) abort();
  try {
    return await Promise.race([addresses, stopped.promise]);
  } finally {
    stop.removeEventListener("abort", abort);
    addresses.catch(() => {});
  }
}

/** All addresses of a host. @throws UnusableError */
export async function addressesOf(host: string): Promise<string[]> {
  // Loaded only if it is needed, because loading takes time.
  const { lookup } = await import("node:dns/promises");
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    throw new UnusableError(`the host ${host} is not known`, "check its name");
  }
}

function endpoint(name: string, fd: number): Endpoint {
  return { ...PLAIN, name, handle: { kind: "socket", name, fd } };
}

/** Waits for a connection without blocking the thread. @returns 0, or the errno of the failure */
async function connected(fd: number, stop: AbortSignal | undefined): Promise<number> {
  const deadline = performance.now() + CONNECT_LIMIT;
  for (;;) {
    if (pollOne(fd, POLLOUT) !== 0) return socketError(fd);
    if (performance.now() >= deadline || stop?.aborted === true) return ERRNO.ETIMEDOUT;
    await Bun.sleep(CONNECT_INTERVAL);
  }
}
