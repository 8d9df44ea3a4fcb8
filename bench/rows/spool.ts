/** Rows of clients that write in any order, beside the way without us: into a file, and the file into the FIFO. */
import { CONVERT } from "./images.ts";
import { MIB, type PipeRow, SHARE } from "./row.ts";

/** Each MiB once, in random order. NBD_CMD_FLUSH is answered when what came before it is streamed. */
const SHUFFLE = '--rw=randwrite --bs=1M --size="$SIZE" --output=/dev/null';

export const spoolRows: PipeRow[] = [
  {
    name: "spool-order",
    title: "that of `unix`, with spool=, which it does not need",
    parameter: "pipe",
    data: "qcow2",
    share: SHARE["4 GiB"],
    client: CONVERT,
    fileClient: 'qemu-img convert -f qcow2 -O raw "$IMAGE" "$FILE"',
    beside: ["plain", "file"],
    spool: true,
    goals: { plain: 1.02 },
  },
  {
    name: "spool-shuffle",
    title: "fio, requests of 1 MiB in random order, with spool=",
    parameter: "pipe",
    data: "raw",
    share: SHARE["4 GiB"],
    client: `fio --name=shuffle --ioengine=nbd --uri="$uri" --iodepth=16 --end_fsync=1 ${SHUFFLE}`,
    fileClient: `fio --name=shuffle --ioengine=psync --fallocate=none --filename="$FILE" ${SHUFFLE}`,
    beside: ["file"],
    spool: true,
    countOnly: true,
    needs: "fio",
    // fio leaves without NBD_CMD_DISC.
    statuses: [0, 4],
    goals: { file: 1.3 },
  },
  {
    name: "hold-qcow2",
    title: "qemu-img convert -O qcow2, with --hold",
    parameter: "pipe",
    data: "qcow2",
    share: SHARE["2 GiB"],
    client: 'qemu-img convert -f qcow2 -O qcow2 "$IMAGE" "$uri"',
    fileClient: 'qemu-img convert -f qcow2 -O qcow2 "$IMAGE" "$FILE"',
    beside: ["file"],
    spool: true,
    args: ["--hold", "--no-pad"],
    room: 256 * MIB,
    image: "qcow2",
  },
];
