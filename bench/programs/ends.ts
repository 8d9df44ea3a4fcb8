/** The other end of a program's stream: what it is told to use, and what is there. */
import { join } from "node:path";
import { type Data, type BenchFiles } from "../run/files.ts";
import { type Ends, timed } from "../run/transfer.ts";
import type { PipeRow, Sink } from "../rows/row.ts";

const COMPARE = join(import.meta.dir, "../ends/compare.ts");
const READER = join(import.meta.dir, "../ends/reader.ts");

/** A simple command for the shell that reads a stream from its standard input. */
export type Reader = string;

export const DISCARD: Reader = "cat > /dev/null";

export const DIGEST: Reader = "sha256sum";

/** Fails if the stream is not the disk. */
export function comparing(row: PipeRow, data: Data, files: BenchFiles): Reader {
  if (row.image !== undefined) return comparingImage(data, row.image, files);
  if (row.countOnly === true) return counting(data.bytes);
  if (row.data === "sparse") return `cmp - ${Bun.$.escape(data.raw ?? "")}`;
  return `${counting(data.bytes)} ${Bun.$.escape(files.part)}`;
}

/** Fails if the stream is no image of the disk. */
function comparingImage({ path, format }: Data, image: string, { folder }: BenchFiles): Reader {
  const [found, wanted] = [join(folder, "found"), path].map((file) => Bun.$.escape(file));
  const compare = `qemu-img compare -f ${image} -F ${format} ${found} ${wanted}`;
  const script = `cat > ${found} && ${compare}; status=$?; rm -f ${found}; exit $status`;
  return `sh -c ${Bun.$.escape(script)}`;
}

/** Fails if the stream is not that long. */
export function counting(bytes: number): Reader {
  return [process.execPath, COMPARE, String(bytes)].map((word) => Bun.$.escape(word)).join(" ");
}

export interface SinkEnd extends Pick<Ends, "other" | "listener"> {
  /** What `pipe=` is. */
  target(stream: string): string;
  /** What ours has to be started by. */
  start(cmd: string[], stream: string): string[];
}

export function sinkEnd(sink: Sink, reader: Reader): SinkEnd {
  const start = (cmd: string[]) => cmd;
  const other = fifoReader(reader);
  switch (sink) {
    case "fifo":
      return { target: (stream) => stream, start, other };
    case "stdout":
      return { target: () => "-", start: intoFifo, other };
    case "socket":
      return { target: (stream) => stream, start, listener: socketReader(reader) };
    case "exec":
      return { target: () => `exec:${timed(reader, "HELPER")}`, start };
  }
}

export const fifoReader = (reader: Reader) => (fifo: string) =>
  shell(`exec ${reader} < "$1"`, fifo);

/** Writes a file into the FIFO. */
export const fifoWriter = (path: string) => (fifo: string) =>
  shell('exec cat "$1" > "$2"', path, fifo);

/** Has a command write into the FIFO; its process id stays what it is. */
export function intoFifo(cmd: string[], fifo: string): string[] {
  return shell('fifo=$1; shift; exec "$@" > "$fifo"', fifo, ...cmd);
}

const socketReader = (reader: Reader) => (socket: string) => {
  const cmd = [process.execPath, READER, socket];
  // Another process would only cost time where nobody wants the data.
  return reader === DISCARD ? cmd : shell(`"$@" --pass | ${reader}`, ...cmd);
};

function shell(script: string, ...args: string[]): string[] {
  return ["sh", "-c", script, "sh", ...args];
}
