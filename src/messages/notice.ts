/**
 * What there is to tell the user, as data: a code and what it is about. The rooms below the library say
 * no more than that, because they do not know how the user gives an option. `text.ts` words it.
 */
import type { Offset } from "../protocol/offset.ts";

/** The options that messages name, by names of our own. */
export type Option =
  | "pipe"
  | "read"
  | "size"
  | "window"
  | "pad"
  | "exact"
  | "exportName"
  | "pidFile"
  | "idleTimeout"
  | "maxConnections"
  | "negotiationTimeout"
  | "reconnect"
  | "readerTimeout"
  | "writerTimeout"
  | "progressInterval"
  | "socketPath"
  | "port"
  | "address"
  | "single"
  | "certificates"
  | "image"
  | "inputFormat"
  | "outputFormat";

export type OptionValue = string | number | bigint | boolean;

type Direction = "write" | "read";

/**
 * A stream that is broken for good. Plain data: it crosses from thread to thread. Its codes do not change
 * between releases.
 */
export type Failure = {
  /** `NBD_E*`, the answer to every later READ, or to every later WRITE, WRITE_ZEROES and FLUSH. */
  readonly errno: number;
} & (
  | {
      /** A client wrote below the head. */
      readonly code: "BACKWARD_WRITE";
      readonly request: string;
      readonly head: Offset;
      /** The window, in bytes, in which it would have been in time; undefined is none. */
      readonly needed: Offset | undefined;
    }
  | {
      /** A client wanted to read what has gone by. */
      readonly code: "BACKWARD_READ";
      readonly request: string;
      readonly head: Offset;
      readonly needed: Offset;
    }
  | {
      /** The clients have finished before the stream's size was reached. */
      readonly code: "TOO_SHORT";
      readonly direction: Direction;
      readonly end: Offset;
      readonly size: Offset;
    }
  | {
      /** The source has ended before the stream's size was reached. */
      readonly code: "SOURCE_ENDED";
      readonly source: string;
      readonly end: Offset;
      /** Undefined if it is not known. */
      readonly size: Offset | undefined;
    }
  | {
      /** The source could not be read, or the command that gives it has failed. */
      readonly code: "SOURCE_FAILED";
      /** What has happened, in words. */
      readonly what: string;
      readonly taken: Offset;
    }
  | {
      /** The source has more than the stream's size, and must not. */
      readonly code: "SURPLUS";
      readonly source: string;
      /** Bytes, at least. */
      readonly surplus: number;
      readonly size: Offset;
    }
  | {
      /** Nobody has opened the other end of the pipe in time. */
      readonly code: "NO_READER" | "NO_WRITER";
      readonly pipe: string;
      readonly seconds: number;
    }
  | {
      /** A client's connection ended in the middle of a WRITE. */
      readonly code: "CLIENT_CUT";
      readonly request: string;
      /** Bytes of it that were still to come; 0 where they were not out yet. */
      readonly missing: number;
      readonly emitted: number;
    }
  | {
      /** The reader closed its end before it had everything. */
      readonly code: "READER_GONE";
      readonly sink: string;
      readonly emitted: number;
      /** Bytes that it left in the pipe; 0 where that is not known. */
      readonly unread: number;
    }
  | {
      /** The sink has no room left, or failed in another way. */
      readonly code: "SINK_FULL" | "SINK_FAILED";
      readonly sink: string;
      readonly why: string;
      readonly emitted: number;
    }
  | {
      /** Another stream goes to the same pipe. */
      readonly code: "SINK_TAKEN";
      readonly sink: string;
    }
);

/** A request to read back what has gone by, which a client may fail for. */
export interface ReadBack {
  readonly request: string;
  /** The window, in bytes, that would have kept it; undefined is none. */
  readonly needed: Offset | undefined;
}

/** A captive command, and how far it had come. */
export interface FailedCommand {
  readonly direction: Direction;
  /** What it copies, where it is qemu-img(1) with words of ours. */
  readonly image: string | undefined;
  readonly connected: boolean;
  /** Bytes that were streamed. */
  readonly emitted: number;
}

/** Why a stream is truncated, its {@link Failure} aside. */
type Reason =
  | {
      /** The READER_GONE of a process of which it is known how it ended. */
      readonly code: "READER_ENDED";
      readonly failure: Failure;
      readonly how: string;
    }
  | { readonly code: "CRASHED"; readonly message: string }
  | {
      /** A WRITE or WRITE_ZEROES was refused. */
      readonly code: "REFUSED_PAST_END";
      readonly request: string;
      readonly size: bigint | undefined;
    }
  | { readonly code: "REFUSED_FLAGS"; readonly request: string }
  | { readonly code: "CLIENT_LEFT" }
  | { readonly code: "NOTHING_MOVED" }
  | { readonly code: "NEVER_CONNECTED" }
  | {
      readonly code: "LEFT_BEHIND";
      /** By `name (process id)`. */
      readonly processes: readonly string[];
      readonly client: "connected" | "negotiating" | undefined;
      readonly emitted: number;
      readonly size: bigint | undefined;
    }
  | {
      readonly code: "COMMAND_FAILED";
      /** Undefined of a dry run. */
      readonly command: FailedCommand | undefined;
      readonly status: number;
      readonly readBack: ReadBack | undefined;
    }
  /** What the process of an endpoint has come to. */
  | { readonly code: "ENDPOINT_FAILED"; readonly problem: string }
  | { readonly code: "STOPPED"; readonly signal: string }
  | { readonly code: "STOPPED_BEFORE_STORED"; readonly signal: string };

/** What does not end a stream. */
type Warning =
  | {
      readonly code: "SURPLUS_LEFT";
      readonly source: string;
      readonly bytes: number;
      /** There may be more. */
      readonly more: boolean;
      readonly size: bigint | undefined;
    }
  | { readonly code: "LENGTH_UNKNOWN"; readonly source: string }
  | {
      readonly code: "AWAITING_READER" | "AWAITING_WRITER";
      readonly pipe: string;
    }
  | { readonly code: "CLIENT_LOST"; readonly seconds: number }
  | {
      readonly code: "CLIENT_CUT_OFF";
      readonly client: number;
      readonly why: "garbage" | "stalled" | "displaced";
    }
  | { readonly code: "CONNECTION_REFUSED"; readonly reason: Words }
  | {
      readonly code: "CONNECTIONS_FULL";
      readonly open: number;
      /** The limit of descriptors (getrlimit(2)) allows fewer than the option. */
      readonly descriptors: boolean;
    }
  | {
      /** The stream does not begin as the bytes of a disk do. */
      readonly code: "COMPRESSED";
      readonly direction: Direction;
      /** The source, if it is a file. */
      readonly source: string | undefined;
      readonly name: string;
      /** The command line that decompresses it. */
      readonly by: string;
      /** The same with the file's name; undefined where that is no plain word. */
      readonly file: string | undefined;
    }
  | {
      readonly code: "IMAGE_FORMAT";
      readonly direction: Direction;
      readonly source: string | undefined;
      readonly format: string;
      /** The client is qemu-img(1) with words of ours. */
      readonly copied: boolean;
    };

/** What keeps a stream from its beginning. */
type Complaint =
  | {
      readonly code: "SIZE_NEEDED";
      readonly direction: Direction;
      /** Who cannot do without. */
      readonly who: Words;
    }
  | {
      readonly code: "CANNOT_LISTEN";
      /** What is listened on. */
      readonly where: string;
      readonly at: "socket" | "port" | "file";
      /** That of the system call, such as EADDRINUSE. */
      readonly error: string | undefined;
      readonly message: string;
    }
  | { readonly code: "NO_CLIENT"; readonly listens: boolean }
  | { readonly code: "PID_FILE"; readonly path: string; readonly why: string }
  | { readonly code: "CERTIFICATE_UNREADABLE"; readonly path: string; readonly why: string }
  | {
      readonly code: "ENDPOINT_UNUSABLE";
      readonly direction: Direction;
      readonly endpoint: string;
      readonly why: string;
      readonly hint: string;
      /** The file that standard output may be redirected to instead. */
      readonly file: string | undefined;
    }
  | {
      readonly code: "ENDPOINT_MALFORMED";
      readonly direction: Direction;
      readonly endpoint: string;
      readonly why: string;
      readonly hint: string;
    }
  | { readonly code: "ENDPOINT_MISSING" }
  | { readonly code: "ENDPOINT_TWICE" }
  | {
      readonly code: "ENDPOINT_IS_IMAGE";
      readonly direction: Direction;
      readonly endpoint: string;
    }
  | { readonly code: "IMAGE_STANDARD" }
  | {
      readonly code: "IMAGE_UNREADABLE";
      readonly image: string;
      readonly why: string;
      readonly hint: Words | undefined;
    }
  | { readonly code: "IMAGE_SIZE_UNKNOWN"; readonly image: string; readonly why: string }
  | { readonly code: "FORMAT_UNKNOWN"; readonly image: string }
  | { readonly code: "EXACT_WRITTEN" }
  | { readonly code: "EXPORT_NAME"; readonly most: number }
  | {
      readonly code: "ONE_FILE";
      readonly own: Words;
      readonly other: Words;
      readonly path: string;
    }
  | {
      readonly code: "NOT_A_SIZE";
      readonly option: "size" | "window";
      readonly value: string | number | bigint;
    }
  | {
      readonly code: "SIZE_TOO_LARGE";
      readonly option: "size" | "window";
      readonly value: string | number | bigint;
      readonly most: string;
    }
  | {
      /** Of seconds, or of clients. */
      readonly code: "NOT_A_TIME" | "NOT_A_NUMBER";
      readonly option: Option;
      readonly value: string | number;
    };

/** Parts of other messages. */
type Part =
  /** An option by its name, or with the value that it has. */
  | { readonly code: "OPTION"; readonly option: Option; readonly value?: OptionValue }
  /** What to do about an image of another format than the one that was named. */
  | { readonly code: "HINT_FORMAT"; readonly format: string };

/** Something to tell the user. */
export type Notice = Failure | Reason | Warning | Complaint | Part;

/** The notice that has a code. */
export type NoticeOf<Code extends Notice["code"]> = Notice extends infer One
  ? One extends { readonly code: infer Codes }
    ? Code extends Codes
      ? One & { readonly code: Code }
      : never
    : never
  : never;

/** A text that names no option is as good as a notice. */
export type Words = string | Notice;
