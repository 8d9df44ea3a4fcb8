/** How a process at the other end of a stream comes by its descriptor. */
import { openSync, renameSync, writeFileSync } from "node:fs";

export type Via =
  | { readonly fd: 0 | 1 }
  /** A named pipe; this waits for the other side. */
  | { readonly fifo: string }
  /** It listens there, and has its first client. */
  | { readonly unix: string }
  /** On a port of the kernel's choice, which is written into this file. */
  | { readonly tcp: string };

export async function opened(via: Via, mode: "r" | "w"): Promise<number> {
  if ("fd" in via) return via.fd;
  if ("fifo" in via) return openSync(via.fifo, mode);
  const { promise, resolve } = Promise.withResolvers<number>();
  const socket = {
    open(connection: Bun.Socket) {
      // From now on this process reads and writes by itself.
      connection.pause();
      resolve((connection as unknown as { fd: number }).fd);
    },
    data() {},
  };
  if ("unix" in via) {
    Bun.listen({ unix: via.unix, socket });
  } else {
    const { port } = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
    writeFileSync(`${via.tcp}.new`, String(port));
    renameSync(`${via.tcp}.new`, via.tcp);
  }
  return await promise;
}
