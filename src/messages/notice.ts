/**
 * What there is to tell the user, as data: a code and its fields. The rooms below the library say no more
 * than that, because they do not know how the user gives an option. `text.ts` words it.
 */
import type { Offset } from "../protocol/offset.ts";
import type { Option, OptionValue } from "./vocabulary.ts";

type Direction = "write" | "read";

/** By code, why a stream is broken. The codes do not change between releases. */
interface Failures {
  /** A client wrote below the head. `needed`: the window that would have sufficed; undefined is none. */
  BACKWARD_WRITE: { request: string; head: Offset; needed: Offset | undefined };
  /** A client wanted to read what has gone by. `needed`: the window that would have sufficed. */
  BACKWARD_READ: { request: string; head: Offset; needed: Offset };
  /** The clients have finished before the stream's size was reached. */
  TOO_SHORT: { direction: Direction; end: Offset; size: Offset };
  /** The source has ended before the stream's size was reached; undefined if the size is not known. */
  SOURCE_ENDED: { source: string; end: Offset; size: Offset | undefined };
  /** The source could not be read, or its command has failed. `what` is a text. */
  SOURCE_FAILED: { what: string; taken: Offset };
  /** The source is longer than the stream's size, by at least `surplus` bytes, and must not be. */
  SURPLUS: { source: string; surplus: number; size: Offset };
  /** The other end of the pipe was not opened in time. */
  NO_READER: { pipe: string; seconds: number };
  NO_WRITER: { pipe: string; seconds: number };
  /**
   * A client's connection ended in the middle of a WRITE. `missing`: the bytes that did not arrive; 0 where
   * all arrived and were not emitted yet.
   */
  CLIENT_CUT: { request: string; missing: number; emitted: number };
  /** The reader closed its end too early. `unread`: bytes left in the pipe; 0 if that is not known. */
  READER_GONE: { sink: string; emitted: number; unread: number };
  SINK_FULL: { sink: string; why: string; emitted: number };
  SINK_FAILED: { sink: string; why: string; emitted: number };
  /**
   * The spool has failed. `spooled`: the bytes that it took on the disk by then; `lacks`: there was no room for
   * more, or a file can be no longer.
   */
  SPOOL_FAILED: {
    folder: string;
    why: string;
    lacks: "room" | "length" | undefined;
    spooled: number;
    emitted: number;
  };
  /** A program that has the path of a held stream's disk has made it longer than the stream is to be. */
  SPOOL_TOO_LONG: { length: Offset; size: Offset };
  /** Another stream goes to the same pipe. */
  SINK_TAKEN: { sink: string };
  /** Another stream of the server has failed, and the first failure is to end all. */
  OTHER_FAILED: { exportName: string; emitted: number };
  /** A client came when the clients were taken to be done, and the stream that was held was on its way. */
  CLIENT_LATE: { emitted: number };
}

/** A request to read back what has gone by, because of which a client may fail. */
export interface ReadBack {
  readonly request: string;
  /** The window, in bytes, that would have kept it; undefined is none. */
  readonly needed: Offset | undefined;
}

/** A captive command, and how far it had come. */
export interface FailedCommand {
  readonly direction: Direction;
  /** What qemu-img(1) copies with the program's own words; undefined for the user's command. */
  readonly image: string | undefined;
  /** The stream's name, if it is one of several. */
  readonly exportName?: string | undefined;
  readonly connected: boolean;
  /** It has written into the disk as a file. */
  readonly filled: boolean;
  /** Nothing was to be streamed before its end. */
  readonly held: boolean;
  /** Bytes that were streamed. */
  readonly emitted: number;
}

/** By code, why a stream is truncated, {@link Failures} aside. */
interface Reasons {
  /** READER_GONE where it is known how the reader's process ended. */
  READER_ENDED: { failure: Failure; how: string };
  CRASHED: { message: string };
  /** A WRITE or WRITE_ZEROES was refused. `held`: the stream is one that takes images. */
  REFUSED_PAST_END: { request: string; size: bigint | undefined; held: boolean };
  REFUSED_FLAGS: { request: string };
  CLIENT_LEFT: {};
  NOTHING_MOVED: {};
  /** `exportName` is undefined for the only stream of a command; `held`: its disk is a file, too, and empty. */
  NEVER_CONNECTED: { exportName: string | undefined; held: boolean };
  /** `processes` are written as `name (process id)`. `held`: nothing was to be streamed yet. */
  LEFT_BEHIND: {
    held: boolean;
    processes: readonly string[];
    client: "connected" | "negotiating" | undefined;
    emitted: number;
    size: bigint | undefined;
  };
  /** `command` is undefined for a dry run. */
  COMMAND_FAILED: {
    command: FailedCommand | undefined;
    status: number;
    readBack: ReadBack | undefined;
  };
  /** The process of an endpoint has failed. */
  ENDPOINT_FAILED: { problem: string };
  STOPPED: { signal: string };
  STOPPED_BEFORE_STORED: { signal: string };
}

/** By code, what does not end a stream. */
interface Warnings {
  SURPLUS_LEFT: { source: string; bytes: number; more: boolean; size: bigint | undefined };
  LENGTH_UNKNOWN: { source: string };
  AWAITING_READER: { pipe: string };
  AWAITING_WRITER: { pipe: string };
  CLIENT_LOST: { seconds: number };
  CLIENT_CUT_OFF: { client: number; why: "garbage" | "stalled" | "displaced" };
  CONNECTION_REFUSED: { reason: Words };
  /** `descriptors`: the limit of descriptors (getrlimit(2)) allows fewer than the option. */
  CONNECTIONS_FULL: { open: number; descriptors: boolean };
  /**
   * The stream begins like compressed data. `source` is set if it is a file; `by` is the command line that
   * decompresses; `file` is the name to put behind it, undefined if that is no plain word.
   */
  COMPRESSED: {
    direction: Direction;
    source: string | undefined;
    name: string;
    by: string;
    file: string | undefined;
  };
  /** The stream begins like an image. `copied`: qemu-img(1) copies it with the program's own words. */
  IMAGE_FORMAT: {
    direction: Direction;
    source: string | undefined;
    format: string;
    copied: boolean;
  };
}

/** By code, why a stream cannot begin. */
interface Complaints {
  /** `who` cannot work without a size. */
  SIZE_NEEDED: { direction: Direction; who: Words };
  /** The limit of descriptors (getrlimit(2)) is too low for so many streams. */
  DESCRIPTORS_FEW: { streams: number; needed: number; limit: number };
  /** `error` is the code of the system call, such as EADDRINUSE. */
  CANNOT_LISTEN: {
    where: string;
    at: "socket" | "port" | "file";
    error: string | undefined;
    message: string;
  };
  NO_CLIENT: { listens: boolean };
  PID_FILE: { path: string; why: string };
  CERTIFICATE_UNREADABLE: { path: string; why: string };
  /** `file`: the file to which standard output may be redirected instead. */
  ENDPOINT_UNUSABLE: {
    direction: Direction;
    endpoint: string;
    why: string;
    hint: string;
    file: string | undefined;
  };
  ENDPOINT_MALFORMED: { direction: Direction; endpoint: string; why: string; hint: string };
  ENDPOINT_MISSING: {};
  ENDPOINT_TWICE: {};
  ENDPOINT_IS_IMAGE: { direction: Direction; endpoint: string };
  IMAGE_STANDARD: {};
  IMAGE_UNREADABLE: { image: string; why: string; hint: Words | undefined };
  IMAGE_SIZE_UNKNOWN: { image: string; why: string };
  FORMAT_UNKNOWN: { image: string };
  EXACT_WRITTEN: {};
  SPOOL_READ: {};
  HOLD_WITHOUT_SPOOL: {};
  /** A command wants the path of a disk: of a stream that is not held, that no stream has, or of one of several. */
  SPOOL_NOT_HELD: { variable: string };
  SPOOL_OF_NONE: { variable: string };
  SPOOL_OF_SEVERAL: {};
  /** A folder cannot have the spool. */
  SPOOL_UNUSABLE: { folder: string; why: string; hint: string };
  EXPORT_NAME: { most: number };
  /** Of several streams, one has no name, or two have the same. */
  STREAM_UNNAMED: {};
  STREAM_TWICE: { name: string };
  /** Two streams cannot have the same endpoint. */
  ENDPOINT_SHARED: { names: readonly [string, string]; endpoint: string };
  ONE_FILE: { own: Words; other: Words; path: string };
  NOT_A_SIZE: { option: "size" | "window"; value: string | number | bigint };
  SIZE_TOO_LARGE: { option: "size" | "window"; value: string | number | bigint; most: string };
  NOT_A_TIME: { option: Option; value: string | number };
  /** A number of clients is wrong. */
  NOT_A_NUMBER: { option: Option; value: string | number };
}

/** By code, parts of other messages. */
interface Parts {
  /** An option by its name, or with its value. */
  OPTION: { option: Option; value?: OptionValue };
  /** Asks whether the named format of an image is right. */
  HINT_FORMAT: { format: string };
}

type Coded<Table> = {
  [Code in keyof Table]: { readonly code: Code } & Readonly<Table[Code]>;
}[keyof Table];

/** Breaks a stream. Plain data: it crosses from thread to thread. */
export type Failure = Coded<Failures> & {
  /** `NBD_E*`, the answer to every later READ, or to every later WRITE, WRITE_ZEROES and FLUSH. */
  readonly errno: number;
};

/** Something to tell the user. */
export type Notice = Failure | Coded<Reasons> | Coded<Warnings> | Coded<Complaints> | Coded<Parts>;

/** The notice that has a code. */
export type NoticeOf<Code extends Notice["code"]> = Extract<Notice, { readonly code: Code }>;

/** A notice, or a text that names no option. */
export type Words = string | Notice;
