/** The programs of a row: their command lines, and what is at the other end of their FIFO. */
import { join } from "node:path";
import type { Row } from "./rows.ts";
import type { Scene } from "./scene.ts";
import type { Ends } from "./transfer.ts";

export const MAIN = join(import.meta.dir, "../src/main.ts");

export const COLUMNS = ["ours", "nbdkit", "cat"] as const;
export type Column = (typeof COLUMNS)[number];

/** One program in one row; all that takes part exits with 0. */
export interface Subject {
  column: Column;
  /** What goes through the FIFO. */
  bytes: number;
  measured: Ends;
  /** The same, or nearly, and it fails if what arrives is not right. */
  checked: Ends;
}

/** A server: its command line, which runs `client`. */
type Server = (fifo: string, client: string) => string[];

export function subjects(row: Row, scene: Scene): Subject[] {
  const found = [served("ours", row, scene, ours(row, scene))];
  if (scene.peer !== undefined) {
    found.push(served("nbdkit", row, scene, nbdkit(row, scene, scene.peer)));
  }
  if (row.floor === true) found.push(floor(scene));
  return found;
}

function served(column: Column, row: Row, scene: Scene, server: Server): Subject {
  const { path, bytes } = scene.data[row.data];
  const env = { IMAGE: scene.image, DATA: path, SIZE: String(bytes), TARGET: scene.target };
  const run = (client: string, other: Ends["other"]): Ends => ({
    program: (fifo) => server(fifo, client),
    env,
    other,
  });
  if (row.parameter === "pipe") {
    return {
      column,
      bytes,
      measured: run(row.client, drained),
      checked: run(row.client, counted(bytes)),
    };
  }
  const fed = feeding(path);
  return { column, bytes, measured: run(row.client, fed), checked: run(row.check, fed) };
}

function ours(row: Row, scene: Scene): Server {
  const { bytes } = scene.data[row.data];
  const listen = row.tcp === true ? ["-p", "0"] : [];
  return (fifo, client) => [
    ...[process.execPath, MAIN, "run", `${row.parameter}=${fifo}`, `size=${bytes}`],
    ...[...listen, "--", client],
  ];
}

function nbdkit(row: Row, scene: Scene, peer: NonNullable<Scene["peer"]>): Server {
  const { bytes } = scene.data[row.data];
  const listen = () =>
    row.tcp === true ? ["-i", "127.0.0.1", "-p", String(freePort())] : ["-U", "-"];
  return (fifo, client) => [
    ...[peer.nbdkit, "-f", ...listen(), peer.plugin, `${row.parameter}=${fifo}`, `size=${bytes}`],
    ...["--run", client],
  ];
}

/** Without any server: `cat IMAGE | cat`, by the same FIFO as the others. */
function floor(scene: Scene): Subject {
  const { path, bytes } = scene.data.image;
  const program = feeding(path);
  return {
    column: "cat",
    bytes,
    measured: { program, other: drained },
    checked: { program, other: counted(bytes) },
  };
}

const drained = (fifo: string) => shell('exec cat "$1" > /dev/null', fifo);

const feeding = (path: string) => (fifo: string) => shell('exec cat "$1" > "$2"', path, fifo);

const COUNT = `
count=$(wc -c < "$1")
[ "$count" -eq "$2" ] && exit
echo "$count bytes came out of the FIFO instead of $2" >&2
exit 1`;

const counted = (bytes: number) => (fifo: string) => shell(COUNT, fifo, String(bytes));

function shell(script: string, ...args: string[]): string[] {
  return ["sh", "-c", script, "sh", ...args];
}

/** nbdkit 1.24 cannot choose a port by itself. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
