/** Rows of requests of one size, written from a raw file into a FIFO. */
import { type Goals, KIB, MIB, NBDCOPY, type PipeRow, SHARE } from "./row.ts";

interface Request {
  name: string;
  bytes: number;
  share: number;
  goals?: Goals;
}

const inFlight: Request[] = [
  { name: "4k", bytes: 4 * KIB, share: SHARE["2 GiB"], goals: { nbdkit: 0.55 } },
  { name: "16k", bytes: 16 * KIB, share: SHARE["2 GiB"], goals: { nbdkit: 0.75 } },
  { name: "64k", bytes: 64 * KIB, share: SHARE["1 GiB"], goals: { nbdkit: 1 } },
  { name: "256k", bytes: 256 * KIB, share: SHARE["4 GiB"], goals: { nbdkit: 0.6 } },
  { name: "2m", bytes: 2 * MIB, share: SHARE["4 GiB"], goals: { nbdkit: 0.6 } },
  { name: "32m", bytes: 32 * MIB, share: SHARE["2 GiB"] },
];

const oneByOne: Request[] = [
  { name: "4k-one", bytes: 4 * KIB, share: SHARE["512 MiB"], goals: { nbdkit: 1 } },
  { name: "2m-one", bytes: 2 * MIB, share: SHARE["2 GiB"] },
];

function row({ name, bytes, share, goals = {} }: Request, title: string, option: string): PipeRow {
  return {
    name,
    title: `nbdcopy, requests of ${spelled(bytes)}, ${title}`,
    parameter: "pipe",
    data: "raw",
    share,
    client: `${NBDCOPY}${option} --request-size=${bytes} "$IMAGE" "$uri"`,
    beside: ["nbdkit", "limit"],
    goals,
  };
}

function spelled(bytes: number): string {
  return bytes < MIB ? `${bytes / KIB} KiB` : `${bytes / MIB} MiB`;
}

/** fio leaves without NBD_CMD_DISC, which truncates a stream, though each byte of it is there. */
const FIO: PipeRow = {
  name: "512",
  title: "fio, requests of 512 bytes, 64 in flight",
  parameter: "pipe",
  data: "raw",
  share: SHARE["256 MiB"],
  client:
    'fio --name=512 --ioengine=nbd --uri="$uri" --rw=write --bs=512 --iodepth=64 --size="$SIZE" --output=/dev/null',
  beside: ["nbdkit", "limit"],
  countOnly: true,
  needs: "fio",
  statuses: [0, 4],
  goals: { nbdkit: 0.9 },
};

export const requestRows: PipeRow[] = [
  FIO,
  ...inFlight.map((request) => row(request, "64 in flight", "")),
  ...oneByOne.map((request) => row(request, "one in flight", " --requests=1")),
];
