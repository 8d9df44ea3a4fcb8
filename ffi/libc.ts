/**
 * The C library, loaded once for each thread that imports this module.
 *
 * The declared types are those of 64-bit Linux, the same in glibc and musl: `size_t` and `off_t` have
 * 64 bits, `int` has 32. The rest of the program calls the wrappers in the other files of this folder,
 * which turn `-1` and errno into a {@link SyscallError}.
 */
import { dlopen, FFIType, type FFIFunction } from "bun:ffi";

const MACHINE = process.arch === "arm64" ? "aarch64" : "x86_64";

/** File names of the C library: glibc's, then the two of musl. */
export const LIBC_NAMES: readonly string[] = [
  "libc.so.6",
  `libc.musl-${MACHINE}.so.1`,
  `ld-musl-${MACHINE}.so.1`,
];

/**
 * `i64_fast` returns a number instead of a bigint where that is exact, as for all results below: the
 * kernel moves at most 2^31 - 4096 bytes in one call.
 *
 * `open` and `fcntl` are variadic in C. On x86-64 and arm64, Linux passes their integer arguments like
 * those of an ordinary function.
 */
const SYMBOLS = {
  __errno_location: { args: [], returns: "ptr" },
  strerror: { args: ["i32"], returns: "cstring" },

  open: { args: ["ptr", "i32", "u32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  dup: { args: ["i32"], returns: "i32" },
  // The last argument is a number or an address.
  fcntl: { args: ["i32", "i32", "u64"], returns: "i32" },
  isatty: { args: ["i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  write: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  writev: { args: ["i32", "ptr", "i32"], returns: FFIType.i64_fast },

  getpagesize: { args: [], returns: "i32" },
  memcpy: { args: ["ptr", "ptr", "u64"], returns: "ptr" },
  lseek: { args: ["i32", "i64", "i32"], returns: FFIType.i64_fast },
  flock: { args: ["i32", "i32"], returns: "i32" },
  pread: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  fallocate: { args: ["i32", "i32", "i64", "i64"], returns: "i32" },
  ftruncate: { args: ["i32", "i64"], returns: "i32" },
  sync_file_range: { args: ["i32", "i64", "i64", "u32"], returns: "i32" },
  fdatasync: { args: ["i32"], returns: "i32" },

  mkfifo: { args: ["ptr", "u32"], returns: "i32" },
  pipe2: { args: ["ptr", "i32"], returns: "i32" },
  splice: { args: ["i32", "ptr", "i32", "ptr", "u64", "u32"], returns: FFIType.i64_fast },
  tee: { args: ["i32", "i32", "u64", "u32"], returns: FFIType.i64_fast },

  recv: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getpeername: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  shutdown: { args: ["i32", "i32"], returns: "i32" },
  inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },

  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  epoll_wait: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  sched_yield: { args: [], returns: "i32" },
  getpgrp: { args: [], returns: "i32" },
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
} as const satisfies Record<string, FFIFunction>;

function load() {
  const failures: string[] = [];
  for (const name of LIBC_NAMES) {
    try {
      return { name, symbols: dlopen(name, SYMBOLS).symbols };
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(`cannot load the C library: ${failures.join("; ")}`);
}

const loaded = load();

/** The C functions. The caller must check their results: see `errno.ts`. */
export const libc = loaded.symbols;

/** The name under which the C library was found, one of {@link LIBC_NAMES}. */
export const libcName = loaded.name;

/**
 * The version of glibc, such as "2.36" (gnu_get_libc_version(3)); undefined for another C library. The
 * file name is no proof: musl's loader also finds itself under glibc's name.
 */
export function glibcVersion(): string | undefined {
  try {
    const { symbols } = dlopen(libcName, {
      gnu_get_libc_version: { args: [], returns: "cstring" },
    });
    return String(symbols.gnu_get_libc_version());
  } catch {
    return undefined;
  }
}
