/** What the man page says beyond the options; `--help` has the exit statuses from here, too. */
import type { Entry, Prose } from "../reference/outline.ts";

/** What stands for the server in a captive command. */
export const VARIABLES: readonly Entry[] = [
  ["$nbd, $uri", "its NBD URI"],
  ["$unixsocket", "its Unix socket"],
  ["$port", "its TCP port"],
  ["$exportname", "the name of -e"],
  ["$tls", "off, on or require"],
];

/** The exit statuses, as src/errors.ts has them. */
export const STATUSES: readonly Entry[] = [
  ["0", "The stream is complete, and its reader has taken all of it."],
  [
    "1",
    'The captive command\'s own status, as of qemu-img and nbdcopy: see the last row. If stderr says "internal error", a fault in nbd-streaming itself.',
  ],
  ["2", "The command line is wrong. Nothing was started."],
  [
    "3",
    "Bun is too old, or the sink or source, the address, the certificates, the pid file, a report or the image cannot be used; a report of a complete stream could not be written; `check`: it has found what will not work.",
  ],
  [
    "4",
    "The stream is truncated, though the command did not fail: stderr says why, and where it stood; `check`: no line works for the command.",
  ],
  ["126,127", "The captive command, or qemu-img, cannot be executed or does not exist."],
  ["128+N", "Signal N has ended it, such as SIGINT (130) or SIGTERM (143)."],
  [
    "other",
    "The captive command's own status: it has failed, by itself or because the stream has, and so the stream is truncated. stderr says which.",
  ],
];

export const PROSE: Prose = {
  description: [
    "An NBD server whose disk is a stream. With `pipe=` (or `write=`), clients write the disk from " +
      "its start to its end, and what they write goes to a named pipe, a socket or a command, each " +
      "byte once and in order. What they leave out becomes zeroes. No temporary file is made.",
    "With `read=`, clients read the disk from its start to its end, and it comes out of a pipe, a " +
      "socket, a file or a command. A client can leave parts out, but not go back, except within the " +
      "first 1 MiB and the last `window=` bytes. Most clients need `size=`.",
    "`serve` listens, and ends the stream when a client that has sent data, or has read, disconnects " +
      "properly and no other is connected. `run` runs a command with the stream as its disk, or " +
      "qemu-img(1) for an IMAGE, and ends the stream when that ends. A command of one word is a " +
      "command line for the shell; several words are executed as they are.",
    "The end of a pipe looks the same whether the stream was complete or not. The exit status is 0 " +
      "only for a complete stream, and the last line on standard error says complete, or truncated " +
      "and why. A command of `pipe=exec:` is killed before it could see the end of a truncated stream.",
    "`check` finds out beforehand whether this machine can do it, what is at the endpoint of a pipe, and " +
      "whether a command streams.",
    "All messages go to standard error.",
  ],
  variables: VARIABLES,
  statuses: STATUSES,
  signals: [
    [
      "SIGINT, SIGTERM, SIGHUP",
      "End the stream as truncated, and with it the captive command and all that it has started. When " +
        "the data is complete and only has to get out to its reader, the first signal leaves a short " +
        "time for that; the second ends it at once. With `serve --keep`, a signal while no client is " +
        "connected is the regular end of the stream. A signal that was ignored at the start stays " +
        "ignored.",
    ],
    ["SIGUSR1", "Prints a line of progress."],
    [
      "SIGKILL",
      "Leaves no time for anything: a command of `pipe=exec:` sees the end of its input.",
    ],
  ],
  environment: [
    [
      "TMPDIR",
      "The folder for the private socket of `run`. Default, also where its path is too long: /tmp.",
    ],
    [
      "LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES",
      "`serve`: a listening socket that is passed as descriptor 3, as sd_listen_fds(3) tells.",
    ],
    ["NO_COLOR", "Without colours, if it is not empty."],
    ["TERM", "Without a bar if it is `dumb` or not set."],
    ["NOTIFY_SOCKET", "`serve`: where READY=1 and STOPPING=1 go, as sd_notify(3) tells."],
    [
      "NBD_STREAMING_SIZE",
      "Set for the command of `pipe=exec:` and `read=exec:`: the length of the stream in bytes, if " +
        "it is known.",
    ],
    [
      "nbd, uri, unixsocket, port, exportname, tls",
      "Set for the captive command: see CAPTIVE COMMAND.",
    ],
  ],
  seeAlso: [
    "nbdcopy(1)",
    "nbdinfo(1)",
    "nbdkit(1)",
    "qemu-img(1)",
    "mkfifo(1)",
    "fifo(7)",
    "pipe(7)",
  ],
};
