/** Every message that there is, with data of all kinds that make a difference. */
import type { Notice, NoticeOf, Words } from "../../src/messages/notice.ts";

type Samples = { readonly [Code in Notice["code"]]: readonly NoticeOf<Code>[] };

const WRITE = "NBD_CMD_WRITE of 512 bytes at 1024";
const READ = "NBD_CMD_READ of 512 bytes at 1024";
const GiB = 2 ** 30;

const GONE: NoticeOf<"READER_GONE"> = {
  code: "READER_GONE",
  errno: 108,
  sink: "out",
  emitted: 4096,
  unread: 0,
};
const OPTION: Words = { code: "OPTION", option: "pad", value: true };

const failed = { code: "COMMAND_FAILED", status: 3, readBack: undefined } as const;
const command = {
  direction: "write",
  image: undefined,
  exportName: undefined,
  connected: true,
  filled: false,
  held: false,
  emitted: 4096,
} as const;
const left = {
  code: "LEFT_BEHIND",
  processes: [],
  client: undefined,
  emitted: 4096,
  held: false,
} as const;
const compressed = { code: "COMPRESSED", name: "zstd", by: "zstd -dc" } as const;
const image = { code: "IMAGE_FORMAT", format: "qcow2" } as const;
const listening = { code: "CANNOT_LISTEN", where: "there", message: "it went wrong" } as const;
const unusable = { code: "ENDPOINT_UNUSABLE", why: "it is a folder", hint: "name a FIFO" } as const;
const malformed = { code: "ENDPOINT_MALFORMED", why: "fd: takes a number" } as const;

/** Each code's messages; the type says that none is left out. */
export const SAMPLES: Samples = {
  BACKWARD_WRITE: [
    { code: "BACKWARD_WRITE", errno: 5, request: WRITE, head: 4096, needed: undefined },
    { code: "BACKWARD_WRITE", errno: 5, request: WRITE, head: 4096, needed: 3072 },
    { code: "BACKWARD_WRITE", errno: 5, request: WRITE, head: 8 * GiB, needed: 5 * GiB },
  ],
  BACKWARD_READ: [
    { code: "BACKWARD_READ", errno: 5, request: READ, head: 4096, needed: 3072 },
    { code: "BACKWARD_READ", errno: 5, request: READ, head: 8 * GiB, needed: 5 * GiB },
  ],
  TOO_SHORT: [
    { code: "TOO_SHORT", errno: 5, direction: "write", end: 4096, size: 8192 },
    { code: "TOO_SHORT", errno: 5, direction: "read", end: 4096, size: 2n ** 60n },
  ],
  SOURCE_ENDED: [
    { code: "SOURCE_ENDED", errno: 5, source: "in", end: 4096, size: undefined },
    { code: "SOURCE_ENDED", errno: 5, source: "in", end: 4096, size: 8192 },
  ],
  SOURCE_FAILED: [{ code: "SOURCE_FAILED", errno: 5, what: "in failed (EIO)", taken: 4096 }],
  SURPLUS: [{ code: "SURPLUS", errno: 5, source: "in", surplus: 1, size: 8192 }],
  NO_READER: [{ code: "NO_READER", errno: 108, pipe: "out", seconds: 2 }],
  NO_WRITER: [{ code: "NO_WRITER", errno: 108, pipe: "in", seconds: 2 }],
  CLIENT_CUT: [
    { code: "CLIENT_CUT", errno: 5, request: WRITE, missing: 12, emitted: 4096 },
    { code: "CLIENT_CUT", errno: 5, request: WRITE, missing: 0, emitted: 4096 },
  ],
  READER_GONE: [GONE, { ...GONE, unread: 3 }],
  SINK_FULL: [{ code: "SINK_FULL", errno: 28, sink: "out", why: "no room", emitted: 4096 }],
  SINK_FAILED: [{ code: "SINK_FAILED", errno: 108, sink: "out", why: "EIO", emitted: 4096 }],
  SPOOL_FAILED: [
    {
      code: "SPOOL_FAILED",
      errno: 28,
      folder: "/var/tmp",
      why: "pwrite: No space left on device",
      lacks: "room",
      spooled: 8192,
      emitted: 4096,
    },
    {
      code: "SPOOL_FAILED",
      errno: 28,
      folder: "/var/tmp",
      why: "pwrite: File too large",
      lacks: "length",
      spooled: 8192,
      emitted: 4096,
    },
    {
      code: "SPOOL_FAILED",
      errno: 5,
      folder: "/var/tmp",
      why: "pwrite: Input/output error",
      lacks: undefined,
      spooled: 8192,
      emitted: 4096,
    },
  ],
  SPOOL_TOO_LONG: [{ code: "SPOOL_TOO_LONG", errno: 28, length: 8192, size: 4096 }],
  SINK_TAKEN: [{ code: "SINK_TAKEN", errno: 108, sink: "out" }],
  OTHER_FAILED: [{ code: "OTHER_FAILED", errno: 108, exportName: "vda", emitted: 4096 }],
  CLIENT_LATE: [{ code: "CLIENT_LATE", errno: 108, emitted: 4096 }],
  READER_ENDED: [{ code: "READER_ENDED", failure: GONE, how: "failed with status 1" }],
  CRASHED: [{ code: "CRASHED", message: "boom" }],
  REFUSED_PAST_END: [
    { code: "REFUSED_PAST_END", request: WRITE, size: undefined, held: false },
    { code: "REFUSED_PAST_END", request: WRITE, size: 1024n, held: false },
    { code: "REFUSED_PAST_END", request: WRITE, size: 1024n, held: true },
  ],
  REFUSED_FLAGS: [{ code: "REFUSED_FLAGS", request: WRITE }],
  CLIENT_LEFT: [{ code: "CLIENT_LEFT" }],
  NOTHING_MOVED: [{ code: "NOTHING_MOVED" }],
  NEVER_CONNECTED: [
    { code: "NEVER_CONNECTED", exportName: undefined, held: false },
    { code: "NEVER_CONNECTED", exportName: "vda", held: false },
    { code: "NEVER_CONNECTED", exportName: "disk 1", held: false },
    { code: "NEVER_CONNECTED", exportName: undefined, held: true },
    { code: "NEVER_CONNECTED", exportName: "vda", held: true },
    { code: "NEVER_CONNECTED", exportName: "disk 1", held: true },
  ],
  LEFT_BEHIND: [
    { ...left, client: "connected", size: undefined },
    { ...left, client: "negotiating", processes: ["sleep (7)"], size: 8192n },
    { ...left, processes: ["sleep (7)"], size: 8192n },
    { ...left, processes: ["sleep (7)"], size: undefined, held: true },
    { ...left, processes: ["a (1)", "b (2)", "c (3)", "d (4)", "e (5)"], size: undefined },
  ],
  COMMAND_FAILED: [
    { ...failed, command: undefined },
    { ...failed, command },
    { ...failed, command: { ...command, connected: false } },
    { ...failed, command: { ...command, connected: false, exportName: "vda" } },
    { ...failed, command: { ...command, emitted: 0 } },
    { ...failed, command: { ...command, emitted: 0, held: true } },
    { ...failed, command: { ...command, emitted: 0, held: true, exportName: "disk 1" } },
    { ...failed, command: { ...command, emitted: 0, held: true, connected: false, filled: true } },
    { ...failed, command: { ...command, emitted: 0, held: true, connected: false } },
    { ...failed, command: { ...command, image: "disk.qcow2", connected: false } },
    { ...failed, command: { ...command, image: "disk.qcow2", emitted: 0 } },
    { ...failed, command: { ...command, image: "disk.qcow2", direction: "read" } },
    { ...failed, command, readBack: { request: READ, needed: undefined } },
    { ...failed, command, readBack: { request: READ, needed: 100 * 2 ** 20 } },
    { ...failed, command: undefined, readBack: { request: READ, needed: 5 * GiB } },
  ],
  ENDPOINT_FAILED: [{ code: "ENDPOINT_FAILED", problem: "exec:false failed with status 1" }],
  STOPPED: [{ code: "STOPPED", signal: "SIGTERM" }],
  STOPPED_BEFORE_STORED: [{ code: "STOPPED_BEFORE_STORED", signal: "SIGTERM" }],
  SURPLUS_LEFT: [
    { code: "SURPLUS_LEFT", source: "in", bytes: 1, more: false, size: 8192n },
    { code: "SURPLUS_LEFT", source: "in", bytes: 1, more: true, size: 8192n },
  ],
  LENGTH_UNKNOWN: [{ code: "LENGTH_UNKNOWN", source: "in" }],
  AWAITING_READER: [{ code: "AWAITING_READER", pipe: "out" }],
  AWAITING_WRITER: [{ code: "AWAITING_WRITER", pipe: "in" }],
  CLIENT_LOST: [{ code: "CLIENT_LOST", seconds: 30 }],
  CLIENT_CUT_OFF: [
    { code: "CLIENT_CUT_OFF", client: 1, why: "garbage" },
    { code: "CLIENT_CUT_OFF", client: 1, why: "stalled" },
    { code: "CLIENT_CUT_OFF", client: 1, why: "displaced" },
  ],
  CONNECTION_REFUSED: [{ code: "CONNECTION_REFUSED", reason: "it is not in step" }],
  CONNECTIONS_FULL: [
    { code: "CONNECTIONS_FULL", open: 100, descriptors: false },
    { code: "CONNECTIONS_FULL", open: 100, descriptors: true },
  ],
  COMPRESSED: [
    { ...compressed, direction: "write", source: undefined, file: undefined },
    { ...compressed, direction: "read", source: undefined, file: undefined },
    { ...compressed, direction: "read", source: "disk.zst", file: "disk.zst" },
    { ...compressed, direction: "read", source: "a disk.zst", file: undefined },
  ],
  IMAGE_FORMAT: [
    { ...image, direction: "write", source: undefined, copied: false },
    { ...image, direction: "read", source: "disk", copied: true },
    { ...image, direction: "read", source: undefined, copied: false },
  ],
  SIZE_NEEDED: [
    { code: "SIZE_NEEDED", direction: "read", who: OPTION },
    { code: "SIZE_NEEDED", direction: "write", who: "making disk.qcow2" },
  ],
  DESCRIPTORS_FEW: [{ code: "DESCRIPTORS_FEW", streams: 60, needed: 806, limit: 256 }],
  CANNOT_LISTEN: [
    { ...listening, at: "port", error: "EADDRINUSE" },
    { ...listening, at: "socket", error: "EADDRINUSE" },
    { ...listening, at: "file", error: "EADDRINUSE" },
    { ...listening, at: "port", error: "EADDRNOTAVAIL" },
    { ...listening, at: "port", error: "EACCES" },
    { ...listening, at: "port", error: "EPERM" },
    { ...listening, at: "socket", error: "ENOENT" },
    { ...listening, at: "socket", error: "ENOTDIR" },
    { ...listening, at: "port", error: undefined },
  ],
  NO_CLIENT: [
    { code: "NO_CLIENT", listens: false },
    { code: "NO_CLIENT", listens: true },
  ],
  PID_FILE: [{ code: "PID_FILE", path: "pid", why: "it is a folder; name another file" }],
  CERTIFICATE_UNREADABLE: [{ code: "CERTIFICATE_UNREADABLE", path: "pki/x.pem", why: "ENOENT" }],
  ENDPOINT_UNUSABLE: [
    { ...unusable, direction: "write", endpoint: "out", file: undefined },
    { ...unusable, direction: "read", endpoint: "in", file: undefined },
    { ...unusable, direction: "write", endpoint: "disk.raw", file: "disk.raw" },
  ],
  ENDPOINT_MALFORMED: [
    { ...malformed, direction: "write", endpoint: "fd:x", hint: "name a descriptor" },
    { ...malformed, direction: "read", endpoint: "fd:x", hint: "name a descriptor" },
  ],
  ENDPOINT_MISSING: [{ code: "ENDPOINT_MISSING" }],
  ENDPOINT_TWICE: [{ code: "ENDPOINT_TWICE" }],
  ENDPOINT_IS_IMAGE: [
    { code: "ENDPOINT_IS_IMAGE", direction: "write", endpoint: "disk" },
    { code: "ENDPOINT_IS_IMAGE", direction: "read", endpoint: "disk" },
  ],
  IMAGE_STANDARD: [{ code: "IMAGE_STANDARD" }],
  IMAGE_UNREADABLE: [
    { code: "IMAGE_UNREADABLE", image: "disk", why: "it is a pipe", hint: undefined },
    { code: "IMAGE_UNREADABLE", image: "disk", why: "it is in use", hint: "end its user" },
    {
      code: "IMAGE_UNREADABLE",
      image: "disk",
      why: "not in qcow2 format",
      hint: { code: "HINT_FORMAT", format: "qcow2" },
    },
  ],
  IMAGE_SIZE_UNKNOWN: [{ code: "IMAGE_SIZE_UNKNOWN", image: "nbd://h", why: "it does not answer" }],
  FORMAT_UNKNOWN: [{ code: "FORMAT_UNKNOWN", image: "disk" }],
  EXACT_WRITTEN: [{ code: "EXACT_WRITTEN" }],
  SPOOL_READ: [{ code: "SPOOL_READ" }],
  SPOOL_NOT_HELD: [{ code: "SPOOL_NOT_HELD", variable: "spool" }],
  SPOOL_OF_NONE: [{ code: "SPOOL_OF_NONE", variable: "spool_vdx" }],
  SPOOL_OF_SEVERAL: [{ code: "SPOOL_OF_SEVERAL" }],
  HOLD_WITHOUT_SPOOL: [{ code: "HOLD_WITHOUT_SPOOL" }],
  SPOOL_UNUSABLE: [
    {
      code: "SPOOL_UNUSABLE",
      folder: "x",
      why: "open x: No such file or directory",
      hint: "make the folder first",
    },
  ],
  EXPORT_NAME: [{ code: "EXPORT_NAME", most: 4096 }],
  STREAM_UNNAMED: [{ code: "STREAM_UNNAMED" }],
  STREAM_TWICE: [{ code: "STREAM_TWICE", name: "vda" }],
  ENDPOINT_SHARED: [{ code: "ENDPOINT_SHARED", names: ["vda", "vdb"], endpoint: "out" }],
  ONE_FILE: [
    { code: "ONE_FILE", own: { code: "OPTION", option: "pidFile" }, other: "fd:3", path: "x" },
  ],
  NOT_A_SIZE: [
    { code: "NOT_A_SIZE", option: "size", value: "much" },
    { code: "NOT_A_SIZE", option: "window", value: 1.5 },
  ],
  SIZE_TOO_LARGE: [
    { code: "SIZE_TOO_LARGE", option: "size", value: 2n ** 63n, most: "2^63 - 2^30 bytes" },
    { code: "SIZE_TOO_LARGE", option: "window", value: "17G", most: "16G" },
  ],
  NOT_A_TIME: [{ code: "NOT_A_TIME", option: "reconnect", value: -1 }],
  NOT_A_NUMBER: [{ code: "NOT_A_NUMBER", option: "maxConnections", value: "many" }],
  OPTION: [
    { code: "OPTION", option: "pidFile" },
    { code: "OPTION", option: "pad", value: false },
  ],
  HINT_FORMAT: [{ code: "HINT_FORMAT", format: "qcow2" }],
};
