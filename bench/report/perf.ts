/** What perf-script(1) has to say. */

/** A moment in which a thread ran. */
export interface Sample {
  /** The name of the thread. */
  comm: string;
  /** When, in seconds. */
  at: number;
  /** The system call that it was in, "compiler" for a thread of Bun's, or "user". */
  call: string;
}

const KERNEL_ENTRY = /^__(?:x64|arm64)_sys_(\w+)$/;
/** Where a stack leaves the kernel; the next frame is the caller in the C library. */
const COMPILER = /^JITWorker/;
const BORDER = /^(?:entry_SYSCALL_64_after_hwframe|el0t_64_sync)$/;

/** What the C library puts before the names of its functions. */
const PREFIX = /^_*(?:GI_*)?(?:libc_)?/;

/** Names of the same call in the kernel and in the C library. */
const ALIASES: Record<string, string> = {
  recvfrom: "recv",
  sendto: "send",
  pread64: "pread",
  pwrite64: "pwrite",
  llseek: "lseek",
};

/** What {@link samples} reads. */
export const FIELDS = "comm,time,ip,sym";

/** @param script what `perf script` prints: a name and a time, and a stack, innermost first */
export function samples(script: string): Sample[] {
  return script
    .split("\n\n")
    .filter((text) => text.trim() !== "")
    .map((text) => {
      const [head = "", ...frames] = text.trim().split("\n");
      const [, comm = "", at = ""] = /^(.*\S)\s+([\d.]+):/.exec(head) ?? [];
      const call = COMPILER.test(comm) ? "compiler" : callOf(frames.map(symbolOf));
      return { comm, at: Number(at), call };
    });
}

/** @param frame an address and a symbol */
function symbolOf(frame: string): string {
  return frame.trim().split(/\s+/)[1] ?? "";
}

function callOf(stack: readonly string[]): string {
  const border = stack.findIndex((symbol) => BORDER.test(symbol));
  const entry = stack.map((symbol) => KERNEL_ENTRY.exec(symbol)?.[1]).find((name) => name);
  // On its way out of the kernel, a thread is still in the call, but not in its function.
  const name =
    entry ?? (border < 0 ? undefined : stack[border + 1]?.replace(PREFIX, "").replace(/@.*/, ""));
  if (name === undefined || !/^[a-z]/.test(name)) return "user";
  return ALIASES[name] ?? name;
}
