/** Rows of `read=`: a raw image is written into a FIFO, and a client reads it as a disk. */
import { KIB, NBDCOPY, type ReadRow, SHARE, TCP_URI } from "./row.ts";

const NBDCOPY_CHECK = 'nbdcopy "$uri" - | cmp - "$IMAGE"';
const SMALL = `--request-size=${4 * KIB}`;

/** Zeroes first: what an earlier run has left in the target must not count. */
const CONVERT_CHECK = `
head -c "$SIZE" /dev/zero 1<> "$TARGET" &&
qemu-img convert -n -f raw -O raw "$uri" "$TARGET" &&
cmp "$TARGET" "$IMAGE"`;

/** @param option the zeroes of `limit` would not be copied without `-S 0` */
const convert = (option: string) => `qemu-img convert -n${option} -f raw -O raw "$uri" "$TARGET"`;

const convertNull = (option: string) =>
  `qemu-img convert -n${option} -f raw "$uri" --target-image-opts "driver=null-co,size=$SIZE"`;

const common = { parameter: "read", data: "raw", share: SHARE["4 GiB"] } as const;

export const readRows: ReadRow[] = [
  {
    ...common,
    name: "read",
    title: "nbdcopy to null:",
    client: `${NBDCOPY} "$uri" null:`,
    check: NBDCOPY_CHECK,
    beside: ["nbdkit", "cat", "limit"],
    goals: { nbdkit: 0.5 },
  },
  {
    ...common,
    name: "read-convert",
    title: "qemu-img convert into a file",
    client: convert(""),
    limitClient: convert(" -S 0"),
    check: CONVERT_CHECK,
    beside: ["nbdkit", "limit"],
    goals: { nbdkit: 0.5 },
  },
  {
    ...common,
    name: "read-null",
    title: "qemu-img convert into nothing",
    client: convertNull(""),
    limitClient: convertNull(" -S 0"),
    check: NBDCOPY_CHECK,
    beside: ["nbdkit", "limit"],
  },
  {
    ...common,
    name: "read-tcp",
    title: "nbdcopy to null:, TCP on 127.0.0.1",
    client: `${NBDCOPY} ${TCP_URI} null:`,
    check: `nbdcopy ${TCP_URI} - | cmp - "$IMAGE"`,
    beside: ["nbdkit", "limit"],
    tcp: true,
  },
  {
    ...common,
    name: "read-4k",
    title: "nbdcopy to null:, requests of 4 KiB",
    share: SHARE["512 MiB"],
    client: `${NBDCOPY} ${SMALL} "$uri" null:`,
    check: `nbdcopy ${SMALL} "$uri" - | cmp - "$IMAGE"`,
    beside: ["nbdkit", "limit"],
  },
];
