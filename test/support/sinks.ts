/** The other ends of the program's sinks, as a test looks at them. */
import { existsSync, readFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { bounded, eventually, start } from "./program.ts";
import type { SinkChoice } from "./trial.ts";

/** What a test has streams written to. */
export const SINKS = ["FIFO", "file", "socket", "command", "pipeline"] as const;
export type SinkKind = (typeof SINKS)[number];

/** A sink that records what it gets. */
export interface TestSink extends AsyncDisposable {
  /** What `pipe=` is to be. */
  readonly target: string;
  /** Shell words for the program's standard output. */
  readonly redirection: string;
  /** Waits until the reader has opened its end, once the program has made the FIFO. */
  ready(): Promise<void>;
  /** All that came out, once the program has ended. */
  output(): Promise<Buffer>;
  /** A command has seen the end of its input, and taken the stream for whole. */
  readonly committed: boolean;
}

/**
 * @param own where the program makes what it makes
 * @param place where the sink's own files go
 */
export async function openSink(choice: SinkChoice, own: string, place: string): Promise<TestSink> {
  const [part, done] = [join(place, "part"), join(place, "done")];
  const plain = {
    target: "-",
    redirection: "",
    ready: () => Promise.resolve(),
    output: () => Promise.resolve(contents(part)),
    get committed() {
      return existsSync(done);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const exec = (command: string): TestSink => {
    Object.assign(plain, { target: `exec:${command}` });
    return plain;
  };
  if (typeof choice === "object") {
    if ("exec" in choice) return exec(choice.exec);
    if ("fifo" in choice) return { ...plain, committed: false, ...fifo(own, place, choice.fifo) };
    if ("socket" in choice) {
      return { ...plain, committed: false, ...(await socket(place, choice.socket)) };
    }
    if ("unix" in choice || "tcp" in choice) {
      return { ...plain, committed: false, ...(await peer(place, choice)) };
    }
    return { ...plain, target: choice.path, committed: false };
  }
  switch (choice) {
    case "FIFO":
      return { ...plain, committed: false, ...fifo(own, place, "cat") };
    case "file":
      return { ...plain, committed: false, redirection: ` > '${part}'` };
    case "socket":
      return { ...plain, committed: false, ...(await socket(place)) };
    case "command":
      return exec("cat > part; echo committed > done");
    case "pipeline":
      return exec("cat | { cat > part; echo committed > done; }");
  }
}

/** @param reader shell words that get the FIFO, as soon as it is there, as standard input */
function fifo(own: string, place: string, reader: string | undefined) {
  const [target, part] = [join(own, "fifo"), join(place, "part")];
  if (reader === undefined) return { target };
  const script = 'until [ -p "$0" ]; do sleep 0.01; done; exec < "$0"; echo open >&2; eval "$1"';
  const running = start(["sh", "-c", `{ ${script}; } > part`, target, reader], { cwd: place });
  return {
    target,
    ready: () => running.saying(/open/),
    async output() {
      // A reader that came too late waits for ever.
      if (running.stderr.includes("open")) await running.ended();
      return contents(part);
    },
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}

/** @param limit bytes after which it hangs up */
async function socket(place: string, limit = Number.POSITIVE_INFINITY) {
  const target = join(place, "reader.sock");
  let received = 0;
  const chunks: Buffer[] = [];
  const connections: Socket[] = [];
  let open = 0;
  const server = createServer((connection) => {
    open++;
    connections.push(connection);
    connection.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      received += chunk.length;
      if (received >= limit) connection.destroy();
    });
    connection.on("error", () => {});
    connection.on("close", () => open--);
  });
  await bounded(new Promise<void>((resolve) => server.listen(target, resolve)), "a listener");
  return {
    target,
    async output() {
      await eventually(() => open === 0, "the socket's end");
      return Buffer.concat(chunks);
    },
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.destroy();
      server.close();
    },
  };
}

/** What comes there is the test's own business. */
async function peer(
  place: string,
  choice: { readonly unix: (peer: Socket) => void } | { readonly tcp: (peer: Socket) => void },
) {
  const connections: Socket[] = [];
  const options = { pauseOnConnect: true, allowHalfOpen: true };
  const server = createServer(options, (connection) => {
    connections.push(connection);
    connection.on("error", () => {});
    if ("unix" in choice) choice.unix(connection);
    else choice.tcp(connection);
  });
  const path = join(place, "peer.sock");
  const where = "unix" in choice ? { path } : { port: 0, host: "127.0.0.1" };
  await bounded(new Promise<void>((resolve) => server.listen(where, resolve)), "a listener");
  const port = "unix" in choice ? 0 : (server.address() as AddressInfo).port;
  return {
    target: "unix" in choice ? path : `tcp:127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.destroy();
      server.close();
    },
  };
}

function contents(path: string): Buffer {
  return existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
}
