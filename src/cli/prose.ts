/** What the reference pages say beyond `--help`, which has the exit statuses from here, too. */
import type { Entry, Prose } from "../reference/outline.ts";

/** What describes the server to a captive command. */
export const VARIABLES: readonly Entry[] = [
  ["$nbd, $uri", "The server's NBD URI, such as nbd+unix:///?socket=/tmp/dir/nbd.sock."],
  ["$unixsocket", "The path of its Unix socket; empty with TCP."],
  ["$port", "Its TCP port; empty with a Unix socket."],
  [
    "$nbd_NAME, $uri_NAME",
    "The URI of the stream that is called NAME, if that has only letters, digits and _. With several streams, $nbd and $uri are without a name.",
  ],
  ["$exportname", "The name given by -e, or empty; also empty with several streams."],
  ["$tls", "off, on or require."],
];

/** The exit statuses, as src/errors.ts has them. */
export const STATUSES: readonly Entry[] = [
  ["0", "The stream is complete, and its reader has taken all of it."],
  [
    "1",
    'The captive command\'s own status, such as that of qemu-img and nbdcopy: see "other". If stderr says "internal error", a bug in nbd-streaming itself.',
  ],
  ["2", "The command line is wrong. Nothing was started."],
  [
    "3",
    "The stream cannot begin: Bun is too old, or the sink or source, the address, the certificates, the pid file, a report, the folder of `spool=` or the image cannot be used. Also: the stream is complete, but a report of it could not be written. `check`: a check has failed.",
  ],
  [
    "4",
    "The stream is truncated, though the command did not fail: stderr says why, and how far the stream got. That `spool=` has no room is such a reason, too. `check`: no line works for the command.",
  ],
  ["126,127", "The captive command, or qemu-img, cannot be executed or does not exist."],
  ["128+N", "Signal N has ended the program, such as SIGINT (130) or SIGTERM (143)."],
  [
    "other",
    "The captive command's own status. It has failed, by itself or because the stream has failed, so the stream is truncated. stderr says which.",
  ],
];

/** By the form of a parameter, or the long name of an option. */
const DETAILS: Readonly<Record<string, string>> = {
  "pipe=PATH":
    "A pipe that is made has mode 0600 and is removed at the end. A device must not be in use.",
  "pipe=-":
    "Standard output is a pipe, or a file (`pipe=- > FILE`) in which long runs of zeroes become holes.",
  "pipe=tcp:HOST:PORT": "An IPv6 address is written in brackets.",
  "pipe=exec:COMMAND":
    "The command finds the length of the stream, if it is known, in `NBD_STREAMING_SIZE`.",
  "read=PATH": "A pipe that is made is removed at the end.",
  "read=-": "Standard input of a captive command is then empty.",
  "size=SIZE":
    "Suffixes are upper or lower case: `b` is bytes, `s` is sectors of 512 bytes, and the others are " +
    "powers of 1024. The default for a file or block device that is read is what is left of it. An " +
    "endless stream is shown to clients as 2^63 - 2^30 bytes.",
  "window=SIZE":
    "With `pipe=`, data that comes ahead of its turn is held until the gap before it is filled. With " +
    "`read=`, the latest data is kept, so that clients can go back to it.",
  "spool=DIR":
    "The file has no name, and is gone with the program. It is sparse, and its room is given back as the stream " +
    "goes out. If there is no room for more, the stream is truncated.",
  "--unix": "`run` makes a private socket with `-U -`, and without `-U`, `-p` and `-i`.",
  "--port": "0 lets the kernel choose. Without `-U` and `-p`, `serve` listens on port 10809.",
  "--exportname": "The empty name is served, too, unless there are several streams.",
  "--pidfile": "FILE is removed at the end.",
  "--pad":
    "Without `--pad` and `--no-pad`, `run` pads what is written, and `serve` treats a short stream as " +
    "truncated.",
  "--hold":
    "Until then the export is an ordinary disk, and neither a command, `tcp:` nor a Unix socket is opened: a client " +
    "that fails leaves them untouched. With `serve`, the stream has the length of `size=` unless `--no-pad` is given.",
  "--tls-certificates": "nbdkit and qemu use the same names for these files.",
  "--max-connections": "The limit of `ulimit -n` applies, too.",
  "--idle-timeout":
    "A client that does not take its reply has stopped within a request. With `--reconnect`, its SECONDS are the " +
    "longest time, even with 0.",
  "--reconnect": "The client repeats the requests that had no reply.",
  "--checksum":
    "The summary has the checksum, too. The line is in the format of sha256sum(1), sha512sum(1), " +
    "md5sum(1) or b2sum(1). It names the file of `pipe=PATH` or `read=PATH`, and otherwise standard " +
    "input.",
  "--progress-fd":
    "Instead of `size=`, an image or file whose size is known will do, and so will `--hold`.",
  "--single": "They have to be a socket.",
};

export const PROSE: Prose = {
  description: [
    "An NBD server whose disk is a stream. With `pipe=` (or `write=`), clients write the disk from " +
      "start to end, and what they write goes to a named pipe, a socket or a command, each " +
      "byte once and in order. What they leave out becomes zeroes. No temporary file is made.",
    "Clients that write in another order need an option. With `window=`, data that comes ahead of its turn waits in " +
      "memory. With `spool=DIR`, what finds no room there waits in a file in DIR, so clients may write each part " +
      "once, in any order. With `--hold` as well, the whole disk is in that file, and is streamed when the clients " +
      "are done. Until then they may also write again and read back, as qemu-img does to make a qcow2; then give " +
      "`--no-pad`, and a `size=` with room for it.",
    "With `read=`, clients read the disk from start to end, and its data comes from a pipe, a " +
      "socket, a file or a command. A client can skip parts, but it cannot go back, except within the " +
      "first 1 MiB and the last `window=` bytes. Most clients need `size=`.",
    "`serve` listens for clients. It ends the stream when a client that has sent data, or has read, " +
      "disconnects properly and no other such client is connected. `run` runs a command with the stream " +
      "as its disk, or qemu-img(1) for an IMAGE, and ends the stream when the command ends. One word is " +
      "a command line for the shell; several words are executed without a shell.",
    "Each of two or more `-e NAME` begins a stream of its own. The parameters behind it are that stream's, and " +
      "so are `--pad`, `--exact`, `--checksum`, `--reconnect` and the timeouts of a pipe and of idle clients. " +
      "What stands before the first `-e` is for all streams; a stream may set it anew. All other options are the " +
      "server's, and may stand anywhere. Clients choose a stream by its name. The program ends when all streams " +
      "have ended, and its exit status is 0 only if all are complete.",
    "The end of a pipe looks the same whether the stream is complete or not. The exit status is 0 " +
      "only for a complete stream, and the last line on standard error says `complete`, or " +
      "`truncated` and why. The command of `pipe=exec:` is killed before it can see the end of a " +
      "truncated stream.",
    "`check` finds out beforehand whether this machine can stream, what is at the other end of a pipe, " +
      "and whether a command writes in order.",
    "All messages go to standard error.",
  ],
  details: DETAILS,
  variables: VARIABLES,
  statuses: STATUSES,
  signals: [
    [
      "SIGINT, SIGTERM, SIGHUP",
      "End the stream as truncated, together with the captive command and all that it has started. If " +
        "the data is complete and the reader only has to take the rest, the first signal leaves a short " +
        "time for that; the second ends it at once. With `serve --keep`, a signal is the " +
        "regular end of the stream once a client has been there and none is connected; a stream with " +
        "`--hold` then has as long as it needs. A signal that was ignored at the start stays ignored.",
    ],
    ["SIGUSR1", "Prints a line of progress."],
    [
      "SIGKILL",
      "Nothing can be cleaned up. A small process that outlives the program kills the command of " +
        "`pipe=exec:` before it can see the end of its input; the socket and the named pipe stay.",
    ],
  ],
  environment: [
    [
      "TMPDIR",
      "The folder for the private socket of `run`. Default, also where its path is too long: /tmp.",
    ],
    [
      "LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES",
      "`serve`: a listening socket that is passed as descriptor 3, as in sd_listen_fds(3).",
    ],
    ["NO_COLOR", "No colours, if it is not empty."],
    ["TERM", "No bar, if it is `dumb` or not set."],
    ["NOTIFY_SOCKET", "`serve`: where READY=1 and STOPPING=1 go, as in sd_notify(3)."],
    [
      "NBD_STREAMING_SIZE",
      "Set for the command of `pipe=exec:` and `read=exec:`: the length of the stream in bytes, if " +
        "it is known. With `--hold` it always is.",
    ],
    [
      "NBD_STREAMING_EXPORT",
      "Set for the command of `pipe=exec:` and `read=exec:`: the name given by `-e`, if there is one.",
    ],
    [
      "nbd, uri, nbd_NAME, uri_NAME, unixsocket, port, exportname, tls",
      "Set for the captive command, as `$nbd` and so on.",
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
