/** Rows of TLS: a raw image by nbdcopy, in both directions, over TCP on 127.0.0.1. */
import { NBDCOPY, type PipeRow, type ReadRow, SHARE, TLS_URI } from "./row.ts";

const common = {
  data: "raw",
  share: SHARE["1 GiB"],
  beside: ["nbdkit", "limit"],
  tcp: true,
  tls: true,
  goals: { nbdkit: 0.9, cpu: 1.2 },
} as const;

const write: PipeRow = {
  ...common,
  name: "tls",
  title: "nbdcopy of a raw image by TLS",
  parameter: "pipe",
  client: `${NBDCOPY} "$IMAGE" ${TLS_URI}`,
};

const read: ReadRow = {
  ...common,
  name: "tls-read",
  title: "nbdcopy to null: by TLS",
  parameter: "read",
  client: `${NBDCOPY} ${TLS_URI} null:`,
  check: `nbdcopy ${TLS_URI} - | cmp - "$IMAGE"`,
};

export const tlsRows = [write, read];
