/**
 * OpenSSL as the client, which tells of each message of TLS that goes by (openssl-s_client(1)): Bun's TLS,
 * in which tls-client.ts has the tests' own client, tells neither of alerts nor of how a connection ended.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Ended, eventually, type Running, start } from "./program.ts";
import { tempFolder } from "./temp.ts";
import { beginTls } from "./tls-client.ts";

/** The versions that the program speaks, and how s_client is told to use no other. */
export const TLS_VERSIONS = [
  ["TLS 1.2", "-tls1_2"],
  ["TLS 1.3", "-tls1_3"],
] as const;

/** How a connection has ended. */
export interface TlsEnd extends Ended {
  /** The last message of TLS that came from the server, as s_client calls it. */
  readonly last: string;
}

/** What ends a connection in the way that TLS has for it. */
export const CLOSE_NOTIFY = "Alert [length 0002], warning close_notify";

/** One connection; `using` ends it. */
export class OpensslClient implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #running: Running;
  readonly #messages: string;
  readonly #answers: string;

  private constructor(
    stack: AsyncDisposableStack,
    running: Running,
    files: { readonly messages: string; readonly answers: string },
  ) {
    this.#stack = stack;
    this.#running = running;
    this.#messages = files.messages;
    this.#answers = files.answers;
  }

  /**
   * Connects, begins TLS, says all of this inside it, and listens until the server has closed.
   *
   * @param where a Unix socket's path or a TCP port of this machine
   * @param version of s_client's options
   * @param folder of `ca-cert.pem` and, for a client that has a certificate, of its own
   */
  static async connect(
    where: string | number,
    version: string,
    folder: string,
    ...words: readonly Uint8Array[]
  ): Promise<OpensslClient> {
    const stack = new AsyncDisposableStack();
    try {
      const temporary = stack.use(tempFolder());
      const [socket, messages] = [temporary.file("tls.sock"), temporary.file("messages")];
      const answers = temporary.file("answers");
      writeFileSync(answers, "");
      // s_client does not know the words of NBD that come before TLS.
      const below = stack.use(await beginTls(where));
      below.socket.removeAllListeners("data").pause();
      const relay = createServer({ allowHalfOpen: true }, (connection) => {
        connection.pipe(below.socket).pipe(connection);
        connection.on("error", () => below.socket.destroy());
        below.socket.on("error", () => connection.destroy());
      });
      stack.defer(() => void relay.close());
      await new Promise<void>((resolve) => relay.listen(socket, resolve));
      const names = ["-servername", "localhost", "-verify_hostname", "localhost"];
      const trust = [...names, "-CAfile", join(folder, "ca-cert.pem")];
      const certificate = join(folder, "client-cert.pem");
      const key = ["-key", join(folder, "client-key.pem")];
      const identity = existsSync(certificate) ? ["-cert", certificate, ...key] : [];
      const running = stack.use(
        start(
          [
            ...["sh", "-c", 'exec "$@" > "$0"', answers],
            ...["openssl", "s_client", "-quiet", version, ...trust, "-verify_return_error"],
            ...[...identity, "-unix", socket, "-msg", "-msgfile", messages],
          ],
          { stdin: new Blob([Buffer.concat(words)]) },
        ),
      );
      return new OpensslClient(stack, running, { messages, answers });
    } catch (error) {
      await stack.disposeAsync();
      throw error;
    }
  }

  /** Waits until something has come inside TLS. */
  async answered(): Promise<void> {
    await eventually(() => readFileSync(this.#answers).length > 0, "an answer inside TLS");
  }

  /** Waits until the server has closed. Standard output is what has come inside TLS. */
  async ended(): Promise<TlsEnd> {
    const ended = await this.#running.ended();
    const stdout = readFileSync(this.#answers, "utf8");
    const messages = readFileSync(this.#messages, "latin1");
    const [, last = ""] =
      [...messages.matchAll(/^<<< TLS [0-9.]+, (?!RecordHeader|InnerContent)(.*)$/gm)].at(-1) ?? [];
    return { ...ended, stdout, last };
  }

  /** Stops taking what the server sends, or goes on. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#running.process.kill(signal);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
