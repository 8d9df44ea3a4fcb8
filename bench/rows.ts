/** What is measured: one entry of `rows` per line of the table. */

/** Which data of the scene goes through the FIFO: see scene.ts. */
export type Data = "disk" | "image" | "part";

interface Common {
  name: string;
  title: string;
  data: Data;
  /**
   * The client: a command line for the shell, with `$uri` and `$port` of the server, and of the
   * scene `$IMAGE`, `$DATA` (the file of what goes through the FIFO), `$SIZE` (of the disk) and
   * `$TARGET`. It exits with 0.
   */
  client: string;
  tcp?: true;
  /** Also measure a FIFO without any server. */
  floor?: true;
  /** At most this part of the peer's time. */
  goal?: number;
}

/** Into the FIFO; what comes out is counted once. */
export interface PipeRow extends Common {
  parameter: "pipe";
  data: "disk";
}

/** Out of the FIFO. */
export interface ReadRow extends Common {
  parameter: "read";
  data: "image" | "part";
  /** The client once more, such that it fails if what it gets is not what went into the FIFO. */
  check: string;
}

export type Row = PipeRow | ReadRow;

const NBDCOPY_CHECK = 'nbdcopy "$uri" - | cmp - "$DATA"';

/** Zeroes first: what an earlier run has left in the target must not count. */
const CONVERT_CHECK = `
head -c "$SIZE" /dev/zero 1<> "$TARGET" &&
qemu-img convert -n -f raw -O raw "$uri" "$TARGET" &&
cmp "$TARGET" "$DATA"`;

/** nbdkit's own $uri says localhost, which may be tried as ::1 first. */
const TCP_URI = '"nbd://127.0.0.1:$port"';

export const rows: Row[] = [
  {
    name: "unix",
    title: "qemu-img convert of random data, Unix socket",
    parameter: "pipe",
    data: "disk",
    client: 'exec qemu-img convert -n "$IMAGE" -O raw "$uri"',
    floor: true,
  },
  {
    name: "tcp",
    title: "qemu-img convert of random data, TCP on loopback",
    parameter: "pipe",
    data: "disk",
    client: `exec qemu-img convert -n "$IMAGE" -O raw ${TCP_URI}`,
    tcp: true,
  },
  {
    name: "read",
    title: "nbdcopy to null:, Unix socket",
    parameter: "read",
    data: "image",
    client: 'exec nbdcopy "$uri" null:',
    check: NBDCOPY_CHECK,
    floor: true,
    goal: 0.5,
  },
  {
    name: "read-convert",
    title: "qemu-img convert into a file",
    parameter: "read",
    data: "image",
    client: 'exec qemu-img convert -n -f raw -O raw "$uri" "$TARGET"',
    check: CONVERT_CHECK,
    goal: 0.5,
  },
  {
    name: "read-null",
    title: "qemu-img convert into nothing",
    parameter: "read",
    data: "image",
    client:
      'exec qemu-img convert -n -f raw "$uri" --target-image-opts "driver=null-co,size=$SIZE"',
    check: CONVERT_CHECK,
  },
  {
    name: "read-tcp",
    title: "nbdcopy to null:, TCP on loopback",
    parameter: "read",
    data: "image",
    client: `exec nbdcopy ${TCP_URI} null:`,
    check: `nbdcopy ${TCP_URI} - | cmp - "$DATA"`,
    tcp: true,
  },
  {
    name: "read-4k",
    title: "nbdcopy to null: in requests of 4 KiB",
    parameter: "read",
    data: "part",
    client: 'exec nbdcopy --request-size=4096 "$uri" null:',
    check: `nbdcopy --request-size=4096 "$uri" - | cmp - "$DATA"`,
  },
];
