/** Programs that take a stream over a socket, or give one. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  type AddressInfo,
  createServer,
  type ListenOptions,
  type Server,
  type Socket,
} from "node:net";
import { bounded } from "./program.ts";

/** A listener that digests what its first client sends. */
export interface DigestListener extends Disposable {
  /** The TCP port; 0 for a Unix socket. */
  readonly port: number;
  /** SHA-256 of all of it, in hex, once the client has finished sending. */
  sha256(): Promise<string>;
}

/** @param delay milliseconds to pause after each piece that has come */
export async function digestListener(where: ListenOptions, delay = 0): Promise<DigestListener> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  // Who does not ask for the digest does not want to hear of its failure either.
  promise.catch(() => {});
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    const hash = createHash("sha256");
    socket.on("data", (bytes: Buffer) => {
      hash.update(bytes);
      if (delay === 0) return;
      socket.pause();
      setTimeout(() => socket.resume(), delay);
    });
    socket.on("end", () => resolve(hash.digest("hex")));
    socket.on("error", reject);
  });
  await listen(server, where);
  const address = server.address() as AddressInfo | string;
  return {
    port: typeof address === "string" ? 0 : address.port,
    sha256: () => bounded(promise, "the end of the stream"),
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** A listener that gives the file to its first client. */
export interface FileListener extends Disposable {
  /** The TCP port; 0 for a Unix socket. */
  readonly port: number;
}

/** Listens until `using` is over. */
export async function fileListener(where: ListenOptions, file: string): Promise<FileListener> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    // A client that has enough may leave.
    socket.on("error", () => {});
    createReadStream(file).pipe(socket);
  });
  await listen(server, where);
  const address = server.address() as AddressInfo | string;
  return {
    port: typeof address === "string" ? 0 : address.port,
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

async function listen(server: Server, where: ListenOptions): Promise<void> {
  await bounded(
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(where, resolve);
    }),
    "the socket to listen",
  );
}
