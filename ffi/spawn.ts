/** Starting a program and hearing of its end: posix_spawn(3), waitid(2). */
import { dlopen, type Pointer } from "bun:ffi";
import {
  CLD_EXITED,
  CLD_STOPPED,
  O_RDWR,
  P_PID,
  POSIX_SPAWN_SETPGROUP,
  POSIX_SPAWN_SETSID,
  POSIX_SPAWN_SETSIGDEF,
  POSIX_SPAWN_SETSIGMASK,
  ERRNO,
  WEXITED,
  WNOHANG,
  WNOWAIT,
  WSTOPPED,
  STDERR_FILENO,
} from "./constants.ts";
import { lastErrno, SyscallError } from "./errno.ts";
import { closesOnExec, cstring, setNonBlocking } from "./fd.ts";
import { libcName } from "./libc.ts";
import { Memory } from "./memory.ts";
import { signalSet } from "./signal.ts";
import { readdirSync } from "node:fs";

// Only the main thread starts programs: the stream thread does not load these.
const libc = dlopen(libcName, {
  posix_spawn: { args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" },
  posix_spawn_file_actions_init: { args: ["ptr"], returns: "i32" },
  posix_spawn_file_actions_destroy: { args: ["ptr"], returns: "i32" },
  posix_spawn_file_actions_adddup2: { args: ["ptr", "i32", "i32"], returns: "i32" },
  posix_spawn_file_actions_addopen: {
    args: ["ptr", "i32", "ptr", "i32", "u32"],
    returns: "i32",
  },
  posix_spawn_file_actions_addclose: { args: ["ptr", "i32"], returns: "i32" },
  posix_spawnattr_init: { args: ["ptr"], returns: "i32" },
  posix_spawnattr_destroy: { args: ["ptr"], returns: "i32" },
  posix_spawnattr_setflags: { args: ["ptr", "i16"], returns: "i32" },
  posix_spawnattr_setpgroup: { args: ["ptr", "i32"], returns: "i32" },
  posix_spawnattr_setsigdefault: { args: ["ptr", "ptr"], returns: "i32" },
  posix_spawnattr_setsigmask: { args: ["ptr", "ptr"], returns: "i32" },
  waitid: { args: ["i32", "i32", "ptr", "i32"], returns: "i32" },
}).symbols;

/** musl and older glibc do not have it. */
const closeFrom = (() => {
  const name = "posix_spawn_file_actions_addclosefrom_np";
  try {
    return dlopen(libcName, { [name]: { args: ["ptr", "i32"], returns: "i32" } }).symbols[name];
  } catch {
    return undefined;
  }
})();

export interface SpawnOptions {
  /** The file to execute, which is not looked for in PATH. */
  readonly file: string;
  /** Its words, the first of which is its own name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Its descriptors from 0 on, by their numbers here; it gets no others. "null" is /dev/null. */
  readonly stdio: readonly (number | "null")[];
  /** Where the terminal's signals find it: with us, in a process group or a session of its own. */
  readonly place: "here" | "group" | "session";
}

/** Larger than posix_spawnattr_t and posix_spawn_file_actions_t of glibc and musl, 336 bytes at most. */
const OPAQUE_SIZE = 512;

/**
 * The runtime ignores these two for itself. Others that are ignored were so before it started, and
 * stay so in what is executed: nohup(1) wants that.
 */
const IGNORED_BY_RUNTIME = signalSet("SIGPIPE", "SIGXFSZ");
const NO_SIGNALS = signalSet();

/**
 * Starts a program, with no signal blocked. Unlike with Bun.spawn, it can have a process group of its
 * own in the session that it is in, and keeps the dispositions that we were started with.
 *
 * @returns its process id
 * @throws SyscallError when it cannot be executed (ENOENT, EACCES), or not be started (EAGAIN)
 */
export function spawn({ file, argv, env, stdio, place }: SpawnOptions): number {
  const [attributes, actions] = [new Memory(OPAQUE_SIZE), new Memory(OPAQUE_SIZE)];
  succeed("posix_spawnattr_init", libc.posix_spawnattr_init(attributes.at(0)));
  try {
    setAttributes(attributes.at(0), place);
    succeed("posix_spawn", libc.posix_spawn_file_actions_init(actions.at(0)));
    try {
      for (const fd of stdio) if (fd !== "null" && fd <= STDERR_FILENO) block(fd);
      const devNull = new Memory(cstring("/dev/null"));
      addActions(actions.at(0), stdio, devNull);
      const pid = new Memory(4);
      const path = new Memory(cstring(file));
      const words = new Strings(argv);
      const variables = new Strings(assignments(env));
      const result = libc.posix_spawn(
        ...[pid.at(0), path.at(0), actions.at(0), attributes.at(0)],
        ...[words.pointer, variables.pointer],
      );
      succeed("posix_spawn", result, file);
      return pid.view.getInt32(0, true);
    } finally {
      libc.posix_spawn_file_actions_destroy(actions.at(0));
    }
  } finally {
    libc.posix_spawnattr_destroy(attributes.at(0));
  }
}

function setAttributes(attributes: Pointer, place: SpawnOptions["place"]): void {
  const flags =
    POSIX_SPAWN_SETSIGDEF |
    POSIX_SPAWN_SETSIGMASK |
    (place === "group" ? POSIX_SPAWN_SETPGROUP : 0) |
    (place === "session" ? POSIX_SPAWN_SETSID : 0);
  for (const result of [
    libc.posix_spawnattr_setflags(attributes, flags),
    libc.posix_spawnattr_setpgroup(attributes, 0),
    libc.posix_spawnattr_setsigdefault(attributes, IGNORED_BY_RUNTIME.at(0)),
    libc.posix_spawnattr_setsigmask(attributes, NO_SIGNALS.at(0)),
  ]) {
    succeed("posix_spawn", result);
  }
}

function addActions(actions: Pointer, stdio: SpawnOptions["stdio"], devNull: Memory): void {
  for (const [to, from] of stdio.entries()) {
    const result =
      from === "null"
        ? libc.posix_spawn_file_actions_addopen(actions, to, devNull.at(0), O_RDWR, 0)
        : libc.posix_spawn_file_actions_adddup2(actions, from, to);
    succeed("posix_spawn", result);
  }
  if (closeFrom !== undefined) {
    succeed("posix_spawn", closeFrom(actions, stdio.length));
    return;
  }
  for (const fd of leaking(stdio.length)) {
    succeed("posix_spawn", libc.posix_spawn_file_actions_addclose(actions, fd));
  }
}

/**
 * The runtime has made what it writes to non-blocking, for all who share it, and most programs take that
 * for an error.
 */
function block(fd: number): void {
  try {
    setNonBlocking(fd, false);
  } catch {
    // It is not open, which the program will notice itself.
  }
}

function assignments(env: SpawnOptions["env"]): string[] {
  const all: string[] = [];
  for (const name in env) {
    const value = env[name];
    if (value !== undefined) all.push(`${name}=${value}`);
  }
  return all;
}

/** Descriptors from `first` on that a program would get without having been given them. */
function leaking(first: number): number[] {
  try {
    const open = readdirSync("/proc/self/fd").map(Number);
    return open.filter((fd) => fd >= first && !closesOnExecOrGone(fd));
  } catch {
    // Without /proc, or with no descriptor left to look into it, there is no telling.
    return [];
  }
}

function closesOnExecOrGone(fd: number): boolean {
  try {
    return closesOnExec(fd);
  } catch {
    return true;
  }
}

/** The functions return what others put into errno. */
function succeed(name: string, errno: number, subject?: string): void {
  if (errno !== 0) throw new SyscallError(name, errno, subject);
}

/** An array of C strings with a null pointer at its end, as execve(2) takes it. */
class Strings {
  readonly #pointers: Memory;
  readonly #text: Memory;

  /** @throws SyscallError EINVAL for one that contains a NUL */
  constructor(strings: readonly string[]) {
    const text = Buffer.from(`${strings.join("\0")}\0`);
    this.#text = new Memory(text);
    this.#pointers = new Memory((strings.length + 1) * 8);
    let at = 0;
    for (let i = 0; i < strings.length; i++) {
      this.#pointers.view.setBigUint64(i * 8, BigInt(this.#text.at(at)), true);
      at = text.indexOf(0, at) + 1;
    }
    if (strings.length > 0 && at !== text.length) {
      throw new SyscallError("posix_spawn", ERRNO.EINVAL, "a word with a NUL");
    }
  }

  get pointer(): Pointer {
    return this.#pointers.at(0);
  }
}

/** What has become of a child: `value` is its exit status, or the signal's number. */
export interface ChildState {
  readonly state: "exited" | "killed" | "stopped";
  readonly value: number;
}

const siginfo = new Memory(128);

/**
 * How a child has ended (waitid(2)). It remains a zombie, and its process id its own, until it is
 * reaped.
 *
 * @returns undefined while it lives; "unknown" when somebody else has reaped it (ECHILD)
 */
export function endOf(pid: number): ChildState | "unknown" | undefined {
  return wait(pid, WEXITED | WNOWAIT);
}

/** Whether a child has been stopped since this was asked last; as {@link endOf}. */
export function stopOf(pid: number): ChildState | "unknown" | undefined {
  return wait(pid, WSTOPPED);
}

/** Removes a child that has ended from the system's list of processes. */
export function reap(pid: number): void {
  wait(pid, WEXITED);
}

function wait(pid: number, options: number): ChildState | "unknown" | undefined {
  const { view } = siginfo;
  view.setInt32(SI_PID, 0, true);
  let result: number;
  do result = libc.waitid(P_PID, pid, siginfo.at(0), options | WNOHANG);
  while (result < 0 && lastErrno() === ERRNO.EINTR);
  if (result < 0) return "unknown";
  if (view.getInt32(SI_PID, true) === 0) return undefined;
  const code = view.getInt32(SI_CODE, true);
  const state = code === CLD_EXITED ? "exited" : code === CLD_STOPPED ? "stopped" : "killed";
  return { state, value: view.getInt32(SI_STATUS, true) };
}

// Where siginfo_t has them on 64-bit machines.
const SI_CODE = 8;
const SI_PID = 16;
const SI_STATUS = 24;
