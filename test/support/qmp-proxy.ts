/** Stands between QEMU's monitor and a client of it: a test sees each command, and can interfere. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";

/** What is done with a command. Default: it passes. */
export interface Interference {
  /** QEMU never gets it, and the client gets an error with these words. */
  readonly refuse?: string;
  /** Called when QEMU has executed it. The client gets the answer afterwards. */
  readonly executed?: () => Promise<unknown> | void;
  /** The client gets this much of the answer, and the end of the connection. */
  readonly cut?: number;
}

/** Decides about a command, and the how many'th of its name it is, from 1 on. */
export type Interfere = (command: string, count: number) => Interference | undefined;

/** A monitor at a path of its own, in front of another. It has any number of clients; `using` ends it. */
export class QmpProxy implements Disposable {
  interfere: Interfere = () => undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(path: string, target: string) {
    this.#server = createServer((client) => this.#serve(client, connect(target))).listen(path);
  }

  static async listen(path: string, target: string): Promise<QmpProxy> {
    const proxy = new QmpProxy(path, target);
    await once(proxy.#server, "listening");
    return proxy;
  }

  #serve(client: Socket, monitor: Socket): void {
    const counts = new Map<string, number>();
    let now: Interference | undefined;
    for (const [socket, other] of [
      [client, monitor],
      [monitor, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        other.destroy();
        this.#sockets.delete(socket);
      });
    }
    onLines(client, (line) => {
      const { execute } = JSON.parse(line) as { execute: string };
      const count = (counts.get(execute) ?? 0) + 1;
      counts.set(execute, count);
      now = this.interfere(execute, count);
      if (now?.refuse === undefined) monitor.write(`${line}\n`);
      else client.write(`${JSON.stringify({ error: { desc: now.refuse } })}\n`);
    });
    onLines(monitor, async (line) => {
      const message = JSON.parse(line) as Record<string, unknown>;
      if ("return" in message || "error" in message) await now?.executed?.();
      if (now?.cut === undefined || "event" in message) client.write(`${line}\n`);
      else {
        client.write(line.slice(0, now.cut));
        client.destroySoon();
      }
    });
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Calls a listener for each line, one after the other. */
function onLines(socket: Socket, listener: (line: string) => Promise<void> | void): void {
  let text = "";
  let last = Promise.resolve();
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => {
    const lines = (text + chunk).split("\n");
    text = lines.pop() as string;
    for (const line of lines) last = last.then(() => listener(line));
  });
}
