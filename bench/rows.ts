/** What is measured: one entry of `rows` per line of the table. */
import { join } from "node:path";
import type { Peer } from "./peer.ts";

export const MAIN = join(import.meta.dir, "../src/main.ts");

export const COLUMNS = ["ours", "nbdkit", "cat"] as const;
export type Column = (typeof COLUMNS)[number];

/** What the rows have to work with. */
export interface Scene {
  /** A qcow2 image, full of random data. */
  image: string;
  /** The size of the disk in it. */
  size: number;
  peer: Peer | undefined;
}

/** One program in one row: it writes `bytes` into the FIFO and exits with 0. */
export interface Subject {
  column: Column;
  bytes: number;
  command(fifo: string): string[];
  env?: Record<string, string>;
}

export interface Row {
  name: string;
  title: string;
  subjects(scene: Scene): Subject[];
}

export const rows: Row[] = [
  {
    name: "unix",
    title: "qemu-img convert of random data, Unix socket",
    subjects: (scene) => [
      ours(scene, [], convert(scene)),
      ...nbdkit(scene, () => ["-U", "-"], 'exec qemu-img convert -n "$IMAGE" -O raw "$nbd"'),
      cat(scene),
    ],
  },
  {
    name: "tcp",
    title: "qemu-img convert of random data, TCP on loopback",
    subjects: (scene) => [
      ours(scene, ["-p", "0"], convert(scene)),
      ...nbdkit(
        scene,
        () => ["-i", "127.0.0.1", "-p", String(freePort())],
        // nbdkit's own $nbd says localhost, which may be tried as ::1 first.
        'exec qemu-img convert -n "$IMAGE" -O raw "nbd://127.0.0.1:$port"',
      ),
    ],
  },
];

function convert(scene: Scene): string[] {
  return ["qemu-img", "convert", "-n", scene.image, "-O", "raw", "$nbd"];
}

function ours(scene: Scene, options: string[], client: string[]): Subject {
  return {
    column: "ours",
    bytes: scene.size,
    command: (fifo) => [
      process.execPath,
      MAIN,
      "run",
      `pipe=${fifo}`,
      `size=${scene.size}`,
      ...options,
      "--",
      ...client,
    ],
  };
}

/** `client` is a command line for the shell; `$IMAGE` in it is the image. */
function nbdkit(scene: Scene, options: () => string[], client: string): Subject[] {
  const { peer, image, size } = scene;
  if (peer === undefined) return [];
  return [
    {
      column: "nbdkit",
      bytes: size,
      env: { IMAGE: image },
      command: (fifo) => [
        peer.nbdkit,
        "-f",
        ...options(),
        peer.plugin,
        `pipe=${fifo}`,
        `size=${size}`,
        "--run",
        client,
      ],
    },
  ];
}

/** The floor without any server: `cat IMAGE | cat`, by the same FIFO as the others. */
function cat(scene: Scene): Subject {
  return {
    column: "cat",
    bytes: Bun.file(scene.image).size,
    command: (fifo) => ["sh", "-c", 'exec cat "$1" > "$2"', "sh", scene.image, fifo],
  };
}

/** nbdkit 1.24 cannot choose a port by itself. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
