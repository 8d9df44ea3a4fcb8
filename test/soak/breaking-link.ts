/** A link between a client and its server that breaks: at any byte, with or without a word. */
import { createConnection, createServer, type Server, type Socket } from "node:net";

/** How a connection through it ends. */
export type Break =
  /** Both sides hear of it at once. */
  | "closed"
  /** The client hears of it; towards the server, nothing comes any more, not even the end. */
  | "dead";

/** Where to connect to, or to listen. */
export type Place = { readonly path: string } | { readonly host: string; readonly port: number };

export interface BreakingLinkOptions {
  readonly listen: Place;
  readonly server: Place;
  /**
   * The fate of the n-th connection: after how many bytes from the client it breaks, and how;
   * undefined lets it live.
   */
  readonly fate: (
    connection: number,
  ) => { readonly after: number; readonly how: Break } | undefined;
}

export class BreakingLink implements AsyncDisposable {
  readonly #options: BreakingLinkOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Connections that came. */
  connections = 0;
  /** Of these, the ones that it has broken. */
  broken = 0;

  constructor(options: BreakingLinkOptions) {
    this.#options = options;
    this.#server = createServer((client) => this.#pass(client));
  }

  /** @returns the port that it listens on; 0 for a path */
  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(this.#options.listen, resolve));
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  #pass(client: Socket): void {
    const fate = this.#options.fate(this.connections++);
    const server = createConnection(this.#options.server);
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
    }
    let passed = 0;
    let dead = false;
    client.on("data", (chunk: Buffer) => {
      if (dead) return;
      const rest = fate === undefined ? chunk.length : fate.after - passed;
      passed += chunk.length;
      const part = chunk.subarray(0, Math.min(rest, chunk.length));
      if (!server.write(part)) {
        client.pause();
        server.once("drain", () => client.resume());
      }
      if (fate === undefined || passed < fate.after) return;
      this.broken++;
      dead = true;
      client.resume();
      client.destroy();
      if (fate.how === "closed") server.end(() => server.destroy());
      else server.pause();
    });
    server.on("data", (chunk: Buffer) => {
      if (dead) return;
      if (!client.write(chunk)) {
        server.pause();
        client.once("drain", () => dead || server.resume());
      }
    });
    client.on("close", () => dead || server.end());
    server.on("close", () => client.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
