/** A stream that is held back, through the real engine into a real FIFO, with its spool in a real file. */
import { tmpdir } from "node:os";
import { close } from "../../ffi/fd.ts";
import { FifoSink } from "../../src/endpoint/sinks/pipe-sink.ts";
import { createSink } from "../../src/endpoint/sinks/create.ts";
import { makeUnnamed, type UnnamedFile } from "../../src/files/unnamed.ts";
import type { Offset } from "../../src/protocol/offset.ts";
import { HoldStream } from "../../src/stream/hold/hold-stream.ts";
import { SpoolFile } from "../../src/stream/spool-file.ts";
import { StreamFixture } from "./stream.ts";

export interface HoldOptions {
  readonly size?: Offset;
  readonly reconnect?: boolean;
  /** The sink comes with a command. */
  readonly late?: boolean;
  readonly idleTimeout?: number;
  /** Where the spool is. */
  readonly folder?: string;
  /** What its file system is said to be able to do. */
  readonly abilities?: Partial<Omit<UnnamedFile, "fd">>;
  /** Takes the place of the spool's descriptor. */
  readonly fd?: number;
}

export const MiB = 1024 * 1024;

/** An engine with a stream that is held back. */
export class HoldFixture extends StreamFixture {
  readonly stream: HoldStream;

  constructor({
    size = 64 * MiB,
    reconnect = false,
    late = false,
    folder = tmpdir(),
    abilities = {},
    idleTimeout,
    fd,
  }: HoldOptions = {}) {
    const made = makeUnnamed(folder, false);
    if (fd !== undefined) close(made.fd);
    let stream: HoldStream | undefined;
    super({
      reader: !late,
      ...(idleTimeout === undefined ? {} : { idleTimeout }),
      make: ({ path, counters, post }) =>
        (stream = new HoldStream({
          spool: new SpoolFile({ ...made, ...abilities, fd: fd ?? made.fd, folder }, counters),
          size,
          reconnect,
          sink: late ? undefined : new FifoSink(path),
          sinkOf: createSink,
          counters,
          post,
        })),
    });
    this.stream = stream as unknown as HoldStream;
  }
}
