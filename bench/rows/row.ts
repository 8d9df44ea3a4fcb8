/** What a row of the benchmark is. */

/** The programs, in the order in which they run; "ours" is in every row. */
export const COLUMNS = ["ours", "nbdkit", "nbdcopy", "cat", "plain", "file", "limit"] as const;
export type Column = (typeof COLUMNS)[number];

/** See run/files.ts. */
export type Content = "qcow2" | "raw" | "sparse";

/** Where the stream goes; of these, the peer knows only the FIFO. */
export type Sink = "fifo" | "stdout" | "socket" | "exec";

/** The largest ratios that will do: the median of ours, divided by the other's. */
export interface Goals {
  /** Of the time of nbdkit. */
  nbdkit?: number;
  /** Of the time that the client takes alone. */
  limit?: number;
  /** Of the time of ours without what only this row tells it. */
  plain?: number;
  /** Of the time of a file in between. */
  file?: number;
  /** Of the CPU time of nbdkit's server. */
  cpu?: number;
}

interface Common {
  name: string;
  title: string;
  data: Content;
  /** How large the disk is, as a part of `--size`. */
  share: number;
  /**
   * The client: a simple command for the shell, with `$uri` and `$port` of the server and `$IMAGE`,
   * `$SIZE` (of the disk in it, in bytes), `$TARGET` and `$CERTIFICATES` (a folder) of the files of the
   * bench. It exits with 0.
   */
  client: string;
  /** The same for the column `limit`, where it would otherwise have less to do. */
  limitClient?: string;
  /** Whom ours is compared with. */
  beside: readonly Exclude<Column, "ours">[];
  tcp?: true;
  /** Over TLS, with certificates that the bench makes. */
  tls?: true;
  /** Ours is the binary that `bun run build` makes, and not the sources. */
  compiled?: true;
  /** All that takes part shares one core. */
  oneCore?: true;
  /** So many streams at once, each with its own server, client and other end; one if nothing is said. */
  streams?: number;
  /** A program that has to be there. */
  needs?: string;
  /** What only ours is told. */
  args?: readonly string[];
  goals?: Goals;
}

/** A client writes, and the stream goes into the sink. */
export interface PipeRow extends Common {
  parameter: "pipe";
  sink?: Sink;
  /** A digest of the stream is wanted, too. */
  digest?: true;
  /** The client decides what it writes: check only how much arrives. */
  countOnly?: true;
  /** The client of the column `file`: it writes the disk, or the image of it, to `$FILE`. */
  fileClient?: string;
  /** Ours gets `spool=`, in the folder in which the file of the column `file` is. */
  spool?: true;
  /** Bytes of the server's disk beyond those of the data. */
  room?: number;
  /** The stream is an image of this format, and not the disk in it. */
  image?: "qcow2";
  /** What ours may exit with. */
  statuses?: readonly number[];
}

/** What is written into the FIFO is read by a client. */
export interface ReadRow extends Common {
  parameter: "read";
  data: "raw";
  /** The client once more, such that it fails if what it gets is not what went into the FIFO. */
  check: string;
}

export type Row = PipeRow | ReadRow;

export const KIB = 2 ** 10;
export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

/** The default of `--size`. */
export const DEFAULT_MIB = 4096;

/** Parts of the default `--size`, 4 GiB. */
export const SHARE = {
  "32 GiB": 8,
  "4 GiB": 1,
  "2 GiB": 1 / 2,
  "1 GiB": 1 / 4,
  "512 MiB": 1 / 8,
  "256 MiB": 1 / 16,
  "1 MiB": 1 / 4096,
} as const;

/** Without the option it would open more connections to the server of `limit`, which allows that. */
export const NBDCOPY = "nbdcopy --connections=1";

/** nbdkit's own $uri says localhost, which may be tried as ::1 first. */
export const TCP_URI = '"nbd://127.0.0.1:$port"';

/** The same by TLS: libnbd's words for it (nbd_connect_uri(3)). */
export const TLS_URI = '"nbds://127.0.0.1:$port/?tls-certificates=$CERTIFICATES"';
