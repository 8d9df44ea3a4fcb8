/** The table of messages: each code with its one line. What happened, where the stream stood, what to do. */
import { clientText } from "./client-text.ts";
import type { FailedCommand, Notice, NoticeOf, Words } from "./notice.ts";
import { formatSize, LARGEST_WINDOW, LEAST_WINDOW } from "../size.ts";
import { isVariablePart, type Vocabulary } from "./vocabulary.ts";

/** The text of a notice; a text stays as it is. */
export function textOf(words: Words, vocabulary: Vocabulary): string {
  if (typeof words === "string") return words;
  const text = TEXTS[words.code] as (notice: Notice, vocabulary: Vocabulary) => string;
  return text(words, vocabulary);
}

type Texts = {
  readonly [Code in Notice["code"]]: (notice: NoticeOf<Code>, vocabulary: Vocabulary) => string;
};

const TEXTS: Texts = {
  BACKWARD_WRITE({ request, head, needed }, v) {
    const behind = `${request} lies behind the stream, which has reached byte ${head}`;
    return needed === undefined
      ? `${behind}: the client writes again what is out; use ${heldBack(v)}, which takes that, ` +
          "or have it write raw data in order (-O raw)"
      : `${behind}: the client does not write from start to end; ${roomFor(needed, v)}, ` +
          `${v.name("spool", "DIR")} takes any order, ` +
          "or see that it writes in order (qemu-img without -W, nbdcopy --synchronous)";
  },
  BACKWARD_READ(failure, v) {
    const { needed } = failure;
    const remedy =
      needed <= LARGEST_ADVICE
        ? `${v.given("window", windowAdvice(Number(needed)))} would have kept this`
        : "copy the stream into a file first";
    return `${clientText(failure)}; ${remedy}`;
  },
  TOO_SHORT: ({ direction, end, size }, v) =>
    direction === "write"
      ? `the clients have finished at byte ${end} of ${v.size(size)}: see whether one has failed; ` +
        `if they leave out zeroes at the end, use ${v.given("pad", true)}`
      : `the clients have read up to byte ${end} of ${v.size(size)}: see whether one has failed; ` +
        `if a part is enough, use ${v.given("pad", false)}`,
  SOURCE_ENDED: ({ source, end, size }, v) =>
    size === undefined
      ? `${source} ended at byte ${end}, and the client wants more: give ${v.given("size", end)} if that is all`
      : `${source} ended at byte ${end} of ${v.size(size)}: see whether its writer has failed; ` +
        `if the rest is to be zeroes, use ${v.given("pad", true)}`,
  SOURCE_FAILED: (failure) => `${clientText(failure)}: see why, and start again`,
  SURPLUS: ({ source, surplus, size }, v) =>
    `${source} has at least ${surplus} bytes more than ${v.size(size)}, and ` +
    `${v.given("exact", true)} forbids that: is the size right?`,
  NO_READER: ({ pipe, seconds }) =>
    `nobody has opened ${pipe} for reading in ${seconds} s: start its reader first`,
  NO_WRITER: ({ pipe, seconds }) =>
    `nobody has opened ${pipe} for writing in ${seconds} s: start its writer first`,
  CLIENT_CUT({ request, missing, emitted }) {
    const when =
      missing > 0 ? `${missing} bytes before the end of` : "before the stream had taken all of";
    return (
      `the client's connection ended ${when} ${request}, ` +
      `with the stream at byte ${emitted}: see why the client died, and start again`
    );
  },
  READER_GONE({ sink, emitted, unread }) {
    const left = unread > 0 ? `, ${unread} bytes of it unread` : "";
    return (
      `the reader of ${sink} went away with the stream at byte ${emitted}${left}: ` +
      "see why it ended, and start again"
    );
  },
  SINK_FULL: (notice) => `${sinkFailed(notice)}; make room for all of the stream, and start again`,
  SINK_FAILED: (notice) => `${sinkFailed(notice)}; see to what is wrong there, and start again`,
  SPOOL_FAILED({ folder, why, lacks, spooled, emitted }, v) {
    const spool = v.given("spool", folder);
    const when = `with ${spooled} bytes in it and the stream at byte ${emitted}`;
    switch (lacks) {
      case "room":
        return `${spool} has no room for more, ${when} (${why}): name a folder with more room`;
      case "length":
        return (
          `${spool} takes no file that reaches so far, ${when} (${why}): give a smaller ${v.name("size")}, ` +
          "name a folder on another file system, such as XFS, or raise ulimit -f"
        );
      case undefined:
        return `${spool} failed ${when}: ${why}; see to its disk, or name another folder`;
    }
  },
  SPOOL_TOO_LONG: ({ length, size }, v) =>
    `the command has made a file of ${length} bytes, more than ${v.size(size)}: ` +
    `give a larger ${v.name("size")}, or none`,
  SINK_TAKEN: ({ sink }) =>
    `another nbd-streaming writes to ${sink}: name a pipe of its own for each stream`,

  OTHER_FAILED: ({ exportName, emitted }, v) =>
    `ended with the stream at byte ${emitted}, because ${exportName} has failed ` +
    `(${v.given("failFast", true)}): see why that failed`,

  CLIENT_LATE: ({ emitted }, v) =>
    `a client has come when the others had left and the stream was on its way, at byte ${emitted}: ` +
    `use ${v.given("keep", true)}, and stop it when all clients are done, or have run start them`,

  READER_ENDED: ({ failure, how }, v) => `${textOf(failure, v)}; it ${how}`,
  CRASHED: ({ message }) => message,
  REFUSED_PAST_END({ request, size, held }, v) {
    const end = size === undefined ? v.name("size") : v.size(size);
    const other = held ? `, or ${GROWING}: with run that is $spool` : "";
    return `${request} goes past the end: ${end} is too small for the client's disk${other}`;
  },
  REFUSED_FLAGS: ({ request }) => `${request} was refused: it has flags that were not negotiated`,
  CLIENT_LEFT: () => "a client left without NBD_CMD_DISC: see why it died, and start again",
  NOTHING_MOVED: () => "the client has left and has not moved the stream",
  NEVER_CONNECTED({ exportName, held }, v) {
    const what = exportName === undefined ? "connecting" : "a client of this stream";
    const spool = held ? fileOf(exportName) : undefined;
    const file = spool === undefined ? "" : `, and has written nothing into ${spool}`;
    const whom = exportName === undefined ? "it" : "one";
    return `the command has ended without ${what}${file}: pass ${whom} ${reference(exportName, held, v)}`;
  },
  LEFT_BEHIND({ processes, client, emitted, size, held }, v) {
    const what: string[] = [];
    if (processes.length > 0) what.push(`it has left ${listOf(processes)} running`);
    if (client !== undefined) what.push(`a client that it left behind is still ${client}`);
    const ended = `the command has ended, but ${what.join(", and ")}`;
    const wait = `wait for ${processes.length > 1 ? "them" : "it"} in the command`;
    if (client !== undefined || held) return `${ended}: ${wait}`;
    const end = size === undefined ? "" : ` of ${v.size(size)}`;
    const other =
      size === undefined ? `, or give ${v.name("size")} if the stream is complete without` : "";
    return `${ended} with the stream at byte ${emitted}${end}: ${wait}${other}`;
  },
  COMMAND_FAILED({ command, status, readBack }, v) {
    const failed =
      command === undefined
        ? `the command has failed with status ${status}`
        : `the command failed with the stream at byte ${command.emitted}`;
    if (readBack === undefined) return `${failed}: ${commandRemedy(command, v)}`;
    const { request, needed } = readBack;
    const remedy =
      needed === undefined
        ? `use ${heldBack(v)}, which keeps that, or have it write raw data in order (-O raw)`
        : roomFor(needed, v);
    return `${failed}, after ${request}, which had gone by: ${remedy}`;
  },
  ENDPOINT_FAILED: ({ problem }) => problem,
  STOPPED: ({ signal }) => `ended by ${signal}`,
  STOPPED_BEFORE_STORED: ({ signal }) =>
    `ended by ${signal} before the image was on the disk: it is as it was before`,

  SURPLUS_LEFT({ source, bytes, more, size }, v) {
    const surplus = more ? `at least ${bytes}` : String(bytes);
    return `${source} has ${surplus} bytes more than ${v.size(size ?? 0n)}: is the size right?`;
  },
  LENGTH_UNKNOWN: ({ source }, v) =>
    `the length of ${source} is not known: most clients that copy need ${v.name("size")}`,
  AWAITING_READER: ({ pipe }) =>
    `waiting for a reader of ${pipe}: start one, such as cat ${pipe} > FILE`,
  AWAITING_WRITER: ({ pipe }) =>
    `waiting for a writer of ${pipe}: start one, such as cat FILE > ${pipe}`,
  CLIENT_LOST: ({ seconds }) => `a client was lost; it has ${seconds} s to come back`,
  CLIENT_CUT_OFF({ client, why }, v) {
    const reasons = {
      garbage: "it does not speak NBD",
      stalled: `it has stopped in the middle of a request (${v.name("idleTimeout")})`,
      displaced: `it has moved nothing, and others need its place (${v.name("idleTimeout")})`,
    };
    return `client ${client} was cut off: ${reasons[why]}`;
  },
  CONNECTION_REFUSED: ({ reason }, v) => `a connection was refused: ${textOf(reason, v)}`,
  CONNECTIONS_FULL({ open, descriptors }, v) {
    const why = descriptors ? "ulimit -n has room for no more" : v.name("maxConnections");
    return `a connection was refused: ${open} are open (${why})`;
  },
  COMPRESSED({ direction, source, name, by, file }, v) {
    const begins = `${source ?? "the stream"} begins like what ${name} has compressed`;
    const remedy =
      direction === "write"
        ? `decompress it first (${by})`
        : source === undefined
          ? `decompress it on its way (${by})`
          : `write ${v.exec("read", `${by} ${file ?? "FILE"}`)}`;
    return `${begins}, and is taken as it is: for the disk in it, ${remedy}`;
  },
  IMAGE_FORMAT({ direction, source, format, copied }, v) {
    const begins = `${source ?? "the stream"} begins like an image of the format ${format}`;
    const remedy =
      direction === "write"
        ? `for the disk in it, have qemu-img read it (${v.imageByQemuImg})`
        : copied
          ? "qemu-img convert alone makes another image of it"
          : "for the disk in it, convert it to raw first (qemu-img convert -O raw)";
    return `${begins}, and is taken as it is: ${remedy}`;
  },

  SIZE_NEEDED({ direction, who }, v) {
    const what = direction === "read" ? "source" : "stream";
    return (
      `${textOf(who, v)} needs ${v.name("size")}: the length of the ${what} is not known; ` +
      `give the exact size of the disk, such as ${v.given("size", "10G")}`
    );
  },
  DESCRIPTORS_FEW: ({ streams, needed, limit }) =>
    `${streams} streams need up to ${needed} descriptors, and ulimit -n has room for ${limit}: raise it`,
  CANNOT_LISTEN({ where, at, error, message }, v) {
    const inUse = {
      port: `another server uses it: choose another port with ${v.name("port")}`,
      socket: "another server uses it, or has left it behind: remove it",
      file: "it is there, and is no socket: choose another path",
    };
    const reasons: Record<string, string> = {
      EADDRINUSE: inUse[at],
      EADDRNOTAVAIL: `this machine does not have the address: check ${v.name("address")}`,
      EACCES: "no permission; choose another place",
      EPERM: "no permission; choose another place",
      ENOENT: "the folder does not exist: make it first",
      ENOTDIR: "the folder does not exist: make it first",
    };
    const reason = reasons[error ?? ""] ?? `${message}; check the address`;
    return `cannot listen on ${where}: ${reason}`;
  },
  NO_CLIENT: ({ listens }, v) =>
    `${v.name("single")}: standard input is ` +
    (listens
      ? "a socket that listens: it takes one that a client is connected to (inetd's nowait)"
      : "no socket: start the program by what passes one"),
  PID_FILE: ({ path, why }, v) => `cannot write ${v.name("pidFile")}: ${path}: ${why}`,
  CERTIFICATE_UNREADABLE: ({ path, why }, v) =>
    `cannot read ${path}: ${why}; ${v.name("certificates", "DIR")} names its folder`,
  ENDPOINT_UNUSABLE({ direction, endpoint, why, hint, file }, v) {
    const remedy = file === undefined ? hint : `${hint}: ${v.redirection(file)}`;
    return `${v.given(parameter(direction), endpoint)} cannot be used: ${why}; ${remedy}`;
  },
  ENDPOINT_MALFORMED: ({ direction, endpoint, why, hint }, v) =>
    `${v.given(parameter(direction), endpoint)}: ${why}; ${hint}`,
  ENDPOINT_MISSING: (_, v) =>
    `${v.name("pipe", "SINK")} is missing: name the pipe that the stream goes to, such as ` +
    `${v.given("pipe", "disk.fifo")} (${v.given("pipe", "-")} is standard output), or a ` +
    v.name("read", "SOURCE"),
  ENDPOINT_TWICE: (_, v) =>
    `${v.name("read")} cannot be combined with ${v.name("pipe")}: a stream has one direction`,
  ENDPOINT_IS_IMAGE({ direction, endpoint }, v) {
    const given = v.given(parameter(direction), endpoint);
    const image = v.name("image");
    return direction === "write"
      ? `${given} is ${image} itself: name a pipe, or another file for ${v.given("pipe", "-")}`
      : `${given} and ${image} are the same file: name another one`;
  },
  IMAGE_STANDARD: (_, v) =>
    `${v.name("image")} cannot be -: qemu-img needs a file, in which it can seek; ./- is one`,
  IMAGE_UNREADABLE({ image, why, hint }, v) {
    const failed = `cannot read ${image}: ${why}`;
    return hint === undefined ? failed : `${failed}; ${textOf(hint, v)}`;
  },
  IMAGE_SIZE_UNKNOWN: ({ image, why }, v) =>
    `cannot read ${image}: its size is not known to the byte (${why}): give ${v.name("size")}`,
  FORMAT_UNKNOWN: ({ image }, v) =>
    `the format of ${image} does not show in its name: give ${v.name("outputFormat")}, ` +
    `such as ${v.given("outputFormat", "qcow2")}, or ${v.given("outputFormat", "raw")} for a device`,
  EXACT_WRITTEN: (_, v) =>
    `${v.given("exact", true)} needs ${v.name("read")}: clients cannot write past ${v.name("size")}`,
  SPOOL_READ: (_, v) => `${v.name("spool")} is for ${v.name("pipe")}: what is read is never ahead`,
  SPOOL_NOT_HELD: ({ variable }, v) =>
    `$${variable} is the file of a stream that is held back: use ${heldBack(v)}, a folder with room for it`,
  SPOOL_OF_NONE: ({ variable }) =>
    `$${variable} is for a stream of that name, and there is none: write another name`,
  SPOOL_OF_SEVERAL: () =>
    "$spool is the file of the only stream: write $spool_NAME, with the name of one of the streams",
  HOLD_WITHOUT_SPOOL: (_, v) =>
    `${v.given("hold", true)} needs ${v.name("spool", "DIR")}, a folder with room for the whole disk`,
  SPOOL_UNUSABLE: ({ folder, why, hint }, v) =>
    `${v.given("spool", folder)} cannot be used: ${why}; ${hint}`,
  EXPORT_NAME: ({ most }, v) => `${v.name("exportName")} takes a name of at most ${most} bytes`,
  STREAM_UNNAMED: (_, v) => `each of several streams needs a name: ${v.name("exportName", "NAME")}`,
  STREAM_TWICE: ({ name }) => `two streams are called ${name}: give each a name of its own`,
  ENDPOINT_SHARED: ({ names: [one, other], endpoint }) =>
    `the streams ${one} and ${other} both use ${endpoint}: give each an endpoint of its own`,
  ONE_FILE: ({ own, other, path }, v) =>
    `${textOf(own, v)} and ${textOf(other, v)} are one file, ${path}: name another one`,
  NOT_A_SIZE({ option, value }, v) {
    const what = `${v.given(option, value)} is not a size`;
    return typeof value === "string"
      ? `${what}: write a whole number and a suffix, such as 512M or 10G`
      : `${what}: give a whole number of bytes`;
  },
  SIZE_TOO_LARGE: ({ option, value, most }, v) =>
    `${v.given(option, value)} is too large: the most is ${most}`,
  NOT_A_TIME: ({ option, value }, v) =>
    `${v.name(option)} ${value} is no time: give a number of seconds, such as 30`,
  NOT_A_NUMBER: ({ option, value }, v) =>
    `${v.name(option)} ${value} is no number of clients: give one from 1 on`,

  OPTION: ({ option, value }, v) => (value === undefined ? v.name(option) : v.given(option, value)),
  HINT_FORMAT: ({ format }, v) => `is ${v.given("inputFormat", format)} right?`,
};

function sinkFailed({ sink, why, emitted }: NoticeOf<"SINK_FULL" | "SINK_FAILED">): string {
  return `${sink} failed with the stream at byte ${emitted}: ${why}`;
}

function parameter(direction: "write" | "read"): "pipe" | "read" {
  return direction === "write" ? "pipe" : "read";
}

/** How a command is told where the server is, or also the file that a stream is until then. */
function reference(exportName: string | undefined, held: boolean, v: Vocabulary): string {
  const file = held ? fileOf(exportName) : undefined;
  return file === undefined ? v.reference(exportName) : `${v.reference(exportName)}, or ${file}`;
}

/** The variable for the disk as a file; undefined for a name that no variable can have. */
function fileOf(exportName: string | undefined): string | undefined {
  if (exportName === undefined) return "$spool";
  return isVariablePart(exportName) ? `$spool_${exportName}` : undefined;
}

/** Why qemu-img(1) cannot write some formats: it needs more room than a disk has, whatever that has. */
const GROWING = "its image is one that grows (VMDK, VHDX, QED), and needs a file";

/** The options for a client that writes again, or reads back. */
function heldBack(v: Vocabulary): string {
  return `${v.given("hold", true)} with ${v.name("spool", "DIR")}`;
}

/** Bytes. A request further back may need less, as a client can leave out most of what lies between. */
const LARGEST_ADVICE = 4 * 2 ** 30;

/** @param needed bytes, or less: only so much lies between */
function roomFor(needed: number | bigint, v: Vocabulary): string {
  return needed <= LARGEST_ADVICE
    ? `${v.given("window", windowAdvice(Math.max(4 * Number(needed), LEAST_WINDOW)))} has room for this`
    : `${v.given("window", formatSize(LARGEST_WINDOW))}, the largest, may have room for this`;
}

/** The next power of two from 1M on, as a value of the window: what comes next may need a bit more. */
function windowAdvice(needed: number): string {
  let mebibytes = 1;
  while (mebibytes * 2 ** 20 < needed) mebibytes *= 2;
  return `${mebibytes}M`;
}

/** The remedy for a command that has failed for a reason of its own. */
function commandRemedy(command: FailedCommand | undefined, v: Vocabulary): string {
  if (command === undefined) return "see its message";
  const { direction, image, exportName, connected, filled, held, emitted } = command;
  const writesNothing = direction === "write" && emitted === 0;
  const large = `${v.name("size")} is large enough`;
  if (image === undefined) {
    const given = reference(exportName, held, v);
    if (!connected && !filled) return `see its message, and whether it is given ${given}`;
    const file = held && !filled ? fileOf(exportName) : undefined;
    if (file !== undefined) return `see its message, and whether ${large}, or ${GROWING}: ${file}`;
    if (held) return "see its message";
    return writesNothing
      ? `see its message, and whether it writes raw (-O raw) and ${large}`
      : "see its message";
  }
  if (direction === "write" && !connected) {
    return (
      `see qemu-img's message on ${image}; if that needs options of qemu-img's, ` + v.wholeCommand
    );
  }
  return writesNothing ? `see qemu-img's message, and whether ${large}` : "see qemu-img's message";
}

/** The most processes that are named; the others are counted. */
const MOST_NAMES = 3;

function listOf(names: readonly string[]): string {
  const more = names.length - MOST_NAMES;
  const parts = more > 0 ? [...names.slice(0, MOST_NAMES), `${more} more`] : [...names];
  const last = parts.pop() as string;
  return parts.length === 0 ? last : `${parts.join(", ")} and ${last}`;
}
