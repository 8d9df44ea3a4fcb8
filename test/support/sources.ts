/** The other ends of sources: writers that a test starts, kills, and lets go on. */
import { existsSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { mkfifo } from "../../ffi/pipe.ts";
import { bounded, eventually, start } from "./program.ts";

/** What the stream is read from; words of the shell find {@link DATA} in the file `data`. */
export type SourceChoice =
  /** Shell words that write into the FIFO; undefined is nobody. */
  | { readonly fifo: string | undefined }
  /** Shell words that write into the program's standard input. */
  | { readonly stdin: string }
  | { readonly exec: string }
  /** What a Unix socket does with the program's connection. */
  | { readonly unix: (connection: Socket) => void }
  /** The same over TCP. */
  | { readonly tcp: (connection: Socket) => void }
  /** Anything else, as it is. */
  | { readonly path: string };

export interface TestSource extends AsyncDisposable {
  /** What `read=` is to be. */
  readonly target: string;
  /** Shell words for the program's standard input. */
  readonly redirection: string;
  /** Kills a writer that shell words stand for, with all that it has started. */
  kill(): Promise<void>;
  /** Waits until such a writer has opened its end. */
  ready(): Promise<void>;
}

const PLAIN = {
  redirection: "",
  kill: () => Promise.resolve(),
  ready: () => Promise.resolve(),
  [Symbol.asyncDispose]: () => Promise.resolve(),
};

/**
 * @param own where the program makes what it makes
 * @param place where the source's own files are
 */
export async function openSource(
  choice: SourceChoice,
  own: string,
  place: string,
): Promise<TestSource> {
  if ("path" in choice) return { ...PLAIN, target: choice.path };
  if ("exec" in choice) return { ...PLAIN, target: `exec:${choice.exec}` };
  if ("unix" in choice) return await socket(join(place, "source.sock"), choice.unix);
  if ("tcp" in choice) return await socket(undefined, choice.tcp);
  if ("stdin" in choice) {
    const path = join(place, "stdin.fifo");
    mkfifo(path, 0o600);
    return { ...PLAIN, target: "-", redirection: ` < '${path}'`, ...writer(path, place, choice) };
  }
  const target = join(own, "fifo");
  if (choice.fifo === undefined) return { ...PLAIN, target };
  return { ...PLAIN, target, ...writer(target, place, { stdin: choice.fifo }) };
}

function writer(path: string, place: string, { stdin: words }: { stdin: string }) {
  const script = 'until [ -p "$0" ]; do sleep 0.01; done; exec > "$0"; echo open >&2; eval "$1"';
  const running = start(["sh", "-c", script, path, words], { cwd: place, group: true });
  return {
    ready: () => running.saying(/open/),
    async kill() {
      process.kill(-running.process.pid, "SIGKILL");
      await running.ended();
    },
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}

/** @param path of a Unix socket; TCP if undefined */
async function socket(path: string | undefined, serve: (connection: Socket) => void) {
  const connections: Socket[] = [];
  const server = createServer((connection) => {
    connections.push(connection);
    connection.on("error", () => {});
    serve(connection);
  });
  const where = path === undefined ? { port: 0, host: "127.0.0.1" } : { path };
  await bounded(new Promise<void>((resolve) => server.listen(where, resolve)), "a listener");
  const port = path === undefined ? (server.address() as AddressInfo).port : 0;
  return {
    ...PLAIN,
    target: path ?? `tcp:127.0.0.1:${port}`,
    ready: () => eventually(() => connections.length > 0, "the program to connect"),
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.destroy();
      server.close();
    },
  };
}

/** Waits until shell words have made a file. */
export async function made(path: string): Promise<void> {
  await eventually(() => existsSync(path), `${path}`);
}
