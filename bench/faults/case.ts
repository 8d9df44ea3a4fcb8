/** What a fault is: a program, what is at the other end of its stream, and who does what, and when. */

/** In the order of the page. */
export const PROGRAMS = ["ours", "nbdkit", "nbdcopy", "qemu-img", "file"] as const;
export type Program = (typeof PROGRAMS)[number];

/** Where a stream goes to (`write`) or comes from (`read`). */
export type Direction = "write" | "read";

/** What is at the other end of a stream, in the order of the page. */
export const ENDPOINTS = [
  ...["FIFO", "Unix socket", "TCP socket", "stdout pipe", "fd:N"],
  ...["exec: command", "exec: pipeline", "stdout file", "block device", "character device"],
  ...["read= FIFO", "read= Unix socket", "read= TCP socket", "stdin pipe", "read= exec:"],
] as const;
export type Endpoint = (typeof ENDPOINTS)[number];

/** The length of the disk, in bytes. Nothing in it is like another part. */
export const SIZE = 4 * 2 ** 20;

/** What the client of our own writes or reads at a time, in bytes. */
export const PIECE = 2 ** 16;

/** What somebody does by himself: `wait` is until the fault has been injected, `stop` for ever. */
export type Deed = "leave" | "kill" | "stop" | "wait";

/** What the process at the other end does when so many bytes have gone by. */
export interface Turn {
  readonly at: number;
  readonly deed: Deed;
  /** That it exits with, of `leave`; 0 if nothing is said. */
  readonly status?: number;
}

/** How far a client is within a request. */
export type Stage = "between requests" | "in a header" | "in a payload";

/** What a client does at a multiple of {@link PIECE}; `finish` is to say NBD_CMD_DISC there. */
export interface ClientTurn {
  readonly at: number;
  readonly stage: Stage;
  readonly deed: "wait" | "leave" | "finish";
}

export type Client =
  /** qemu-img(1), which copies an image into the stream. */
  | { readonly kind: "copy" }
  /** The program's own form for that: it makes an image of the stream. */
  | { readonly kind: "image" }
  /** One of our own, for which the server waits (`serve`) or which it runs. */
  | {
      readonly kind: "raw";
      readonly by: "serve" | "run";
      readonly turn?: ClientTurn;
      /** What it exits with at the end. */
      readonly status?: number;
      /** The command that it is a part of says 0, whatever becomes of it. */
      readonly hidden?: true;
    };

/** A signal from outside. */
export interface Act {
  /** Who has to be at its turn before. */
  readonly when: "client" | "endpoint";
  readonly signal: NodeJS.Signals;
  /** `group` is the program's process group; `source` the NBD server that is copied from or to. */
  readonly to: "client" | "program" | "server" | "group" | "source";
  /** Milliseconds to wait before it; if the program ends by then, it is not needed. */
  readonly after?: number;
}

/** What ours may keep in a folder before it is streamed: what is ahead of its turn, or everything. */
export type Keeps = "spool=" | "--hold";

export interface Plan {
  readonly direction: Direction;
  readonly client: Client;
  /** Of the process at the other end. */
  readonly turn?: Turn;
  /** How it ends when all has gone by: with a status, or by SIGKILL. */
  readonly last?: number | "kill";
  /** Of the first stage of a pipeline, whose last stage is the reader then. */
  readonly stage?: Turn;
  readonly acts?: readonly Act[];
  readonly keeps?: Keeps;
  /** Bytes that the sink has room for; with {@link keeps}, the folder. */
  readonly room?: number;
  /** The byte at which the disk that is copied from cannot be read. */
  readonly unreadable?: number;
}

/** One fault, or none. */
export interface Case {
  readonly program: Program;
  readonly endpoint: Endpoint;
  readonly fault: string;
  /** Where in the stream; `-` if that is not a question. */
  readonly at: string;
  readonly plan: Plan;
}

/**
 * False where no program can know what it would have to: a stage of a shell's pipeline dies, and the next
 * one sees an ordinary end; the last one leaves with 0 when the one before has all that it waits for; a
 * reader over TCP stops for ever, and its kernel has acknowledged all.
 */
export function isKnowable({ endpoint, plan }: Pick<Case, "endpoint" | "plan">): boolean {
  if (endpoint === "exec: pipeline") return plan.stage === undefined && plan.turn === undefined;
  return !(endpoint === "TCP socket" && plan.turn?.deed === "stop");
}

/** The fault of rows that show that the harness can tell. */
export const CONTROL = "none (control)";

export function nameOf({ program, endpoint, fault, at }: Case): string {
  return `${program}, ${endpoint}: ${fault}${at === "-" ? "" : `, ${at}`}`;
}
