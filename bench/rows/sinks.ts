/** Rows of sinks that are no FIFO; what is written is that of the row `unix`. */
import { CONVERT } from "./images.ts";
import { type PipeRow, SHARE } from "./row.ts";

const common = {
  parameter: "pipe",
  data: "qcow2",
  share: SHARE["2 GiB"],
  client: CONVERT,
} as const;

export const sinkRows: PipeRow[] = [
  {
    ...common,
    name: "stdout",
    title: "pipe=-, standard output",
    sink: "stdout",
    beside: ["nbdcopy", "limit"],
  },
  {
    ...common,
    name: "socket",
    title: "pipe=SOCKET, a listening Unix socket",
    sink: "socket",
    beside: ["limit"],
  },
  {
    ...common,
    name: "exec",
    title: "pipe=exec:'cat > /dev/null'",
    sink: "exec",
    beside: ["limit"],
  },
];
