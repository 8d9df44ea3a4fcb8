/** Starts programs and waits for them: posix_spawn(3), waitid(2). */
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

// Loaded apart, as only the main thread starts programs.
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

/** Undefined with musl and older glibc. */
const closeFrom = (() => {
  const name = "posix_spawn_file_actions_addclosefrom_np";
  try {
    return dlopen(libcName, { [name]: { args: ["ptr", "i32"], returns: "i32" } }).symbols[name];
  } catch {
    return undefined;
  }
})();

export interface SpawnOptions {
  /** The path of the file to execute; PATH is not searched. */
  readonly file: string;
  /** The arguments, including the program's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * The program's descriptors from 0 on, by their numbers in this process; no others. "null" is
   * /dev/null.
   */
  readonly stdio: readonly (number | "null")[];
  /** Runs in this process's group, in a new process group, or in a new session. */
  readonly place: "here" | "group" | "session";
}

/** Larger than posix_spawnattr_t and posix_spawn_file_actions_t of glibc and musl (at most 336 bytes). */
const OPAQUE_SIZE = 512;

/**
 * Bun ignores these two for itself; the program must not. Other ignored signals were ignored before Bun
 * started, and stay so in the program, as nohup(1) requires.
 */
const IGNORED_BY_RUNTIME = signalSet("SIGPIPE", "SIGXFSZ");
const NO_SIGNALS = signalSet();

/**
 * Starts a program, with no signal blocked. Unlike with Bun.spawn, the program can get a process group
 * of its own in the same session, and keeps the signal dispositions that this process was started with.
 *
 * @returns the process id
 * @throws SyscallError when it cannot be executed (ENOENT, EACCES) or started (EAGAIN)
 */
export function spawn({ file, argv, env, stdio, place }: SpawnOptions): number {
  const [attributes, actions] = [new Memory(OPAQUE_SIZE), new Memory(OPAQUE_SIZE)];
  requireZero("posix_spawnattr_init", libc.posix_spawnattr_init(attributes.at(0)));
  try {
    setAttributes(attributes.at(0), place);
    requireZero("posix_spawn", libc.posix_spawn_file_actions_init(actions.at(0)));
    try {
      for (const fd of stdio) if (fd !== "null" && fd <= STDERR_FILENO) makeBlocking(fd);
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
      requireZero("posix_spawn", result, file);
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
    requireZero("posix_spawn", result);
  }
}

function addActions(actions: Pointer, stdio: SpawnOptions["stdio"], devNull: Memory): void {
  for (const [to, from] of stdio.entries()) {
    const result =
      from === "null"
        ? libc.posix_spawn_file_actions_addopen(actions, to, devNull.at(0), O_RDWR, 0)
        : libc.posix_spawn_file_actions_adddup2(actions, from, to);
    requireZero("posix_spawn", result);
  }
  if (closeFrom !== undefined) {
    requireZero("posix_spawn", closeFrom(actions, stdio.length));
    return;
  }
  for (const fd of inheritable(stdio.length)) {
    requireZero("posix_spawn", libc.posix_spawn_file_actions_addclose(actions, fd));
  }
}

/**
 * Bun makes descriptors that it writes to non-blocking for all who share them, and most programs fail
 * then.
 */
function makeBlocking(fd: number): void {
  try {
    setNonBlocking(fd, false);
  } catch {
    // Not open; the program will notice that itself.
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

/** The descriptors from `first` on that the program would inherit. */
function inheritable(first: number): number[] {
  try {
    const open = readdirSync("/proc/self/fd").map(Number);
    return open.filter((fd) => fd >= first && !closesOnExecOrGone(fd));
  } catch {
    // Not known without /proc, or without a free descriptor.
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

/** Checks the result of a function that returns an error number in place of setting errno. */
function requireZero(name: string, errno: number, subject?: string): void {
  if (errno !== 0) throw new SyscallError(name, errno, subject);
}

/** A null-terminated array of C strings, for execve(2). */
class Strings {
  readonly #pointers: Memory;
  readonly #text: Memory;

  /** @throws SyscallError EINVAL for a string that contains a NUL */
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

/** The state of a child; `value` is the exit status or the signal's number. */
export interface ChildState {
  readonly state: "exited" | "killed" | "stopped";
  readonly value: number;
}

const siginfo = new Memory(128);

/**
 * How a child has ended (waitid(2)). The child stays a zombie, so that its process id is not reused,
 * until {@link reap}.
 *
 * @returns undefined while it runs; "unknown" when other code has reaped it (ECHILD)
 */
export function exitState(pid: number): ChildState | "unknown" | undefined {
  return wait(pid, WEXITED | WNOWAIT);
}

/** Whether a child has been stopped since the last call. @returns as {@link exitState} */
export function stopState(pid: number): ChildState | "unknown" | undefined {
  return wait(pid, WSTOPPED);
}

/** Reaps a child that has ended. */
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

// Positions in siginfo_t on 64-bit machines.
const SI_CODE = 8;
const SI_PID = 16;
const SI_STATUS = 24;
