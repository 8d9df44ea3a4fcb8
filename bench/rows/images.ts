/** Rows of a whole image that goes into a FIFO. */
import { type PipeRow, SHARE, TCP_URI } from "./row.ts";

export const CONVERT = 'qemu-img convert -n -f qcow2 -O raw "$IMAGE" "$uri"';

/** That of `unix`, where other things count than the throughput of an idle machine. */
const short = {
  parameter: "pipe",
  data: "qcow2",
  share: SHARE["1 GiB"],
  client: CONVERT,
  beside: ["nbdkit", "limit"],
} as const;

export const imageRows: PipeRow[] = [
  {
    name: "unix",
    title: "qemu-img convert of random data",
    parameter: "pipe",
    data: "qcow2",
    share: SHARE["4 GiB"],
    client: CONVERT,
    beside: ["nbdkit", "nbdcopy", "cat", "limit"],
    goals: { nbdkit: 0.4, limit: 1.1, cpu: 0.35 },
  },
  {
    name: "tcp",
    title: "the same over TCP on 127.0.0.1",
    parameter: "pipe",
    data: "qcow2",
    share: SHARE["4 GiB"],
    client: `qemu-img convert -n -f qcow2 -O raw "$IMAGE" ${TCP_URI}`,
    beside: ["nbdkit", "limit"],
    tcp: true,
    goals: { nbdkit: 0.65 },
  },
  {
    name: "window",
    title: "qemu-img convert -W, out of order",
    parameter: "pipe",
    data: "qcow2",
    share: SHARE["2 GiB"],
    client: 'qemu-img convert -n -W -f qcow2 -O raw "$IMAGE" "$uri"',
    beside: ["limit"],
    args: ["window=64M"],
  },
  {
    name: "checksum",
    title: "--checksum sha256; nbdkit's reader is sha256sum",
    parameter: "pipe",
    data: "qcow2",
    share: SHARE["2 GiB"],
    client: CONVERT,
    beside: ["nbdkit"],
    digest: true,
  },
  {
    name: "zero",
    title: "qemu-img convert of 1% data, 99% zeroes",
    parameter: "pipe",
    data: "sparse",
    share: SHARE["32 GiB"],
    client: CONVERT,
    beside: ["nbdkit", "nbdcopy", "limit"],
    goals: { nbdkit: 0.15 },
  },
  {
    name: "raw",
    title: "qemu-img convert of a raw image",
    parameter: "pipe",
    data: "raw",
    share: SHARE["4 GiB"],
    client: 'qemu-img convert -n -f raw -O raw "$IMAGE" "$uri"',
    beside: ["nbdkit", "nbdcopy", "cat", "limit"],
  },
  {
    ...short,
    name: "1g",
    title: "that of `unix`, of 1 GiB",
    goals: { nbdkit: 0.6 },
  },
  {
    ...short,
    name: "one-core",
    title: "that of `1g`, all on one core",
    needs: "taskset",
    oneCore: true,
    goals: { nbdkit: 0.9 },
  },
  {
    ...short,
    name: "four",
    title: "that of `1g`, four streams at once",
    streams: 4,
  },
  {
    ...short,
    name: "tiny",
    title: "that of `unix`, of 1 MiB: start and end",
    share: SHARE["1 MiB"],
    goals: { nbdkit: 1.5 },
  },
  {
    ...short,
    name: "tiny-compiled",
    title: "that of `tiny`, by the compiled program",
    share: SHARE["1 MiB"],
    compiled: true,
    goals: { nbdkit: 1.5 },
  },
];
