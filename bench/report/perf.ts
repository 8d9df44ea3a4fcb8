/** What perf-script(1) has to say. */

/** A moment in which a thread ran. */
export interface Sample {
  /** The name of the thread. */
  comm: string;
  /** The system call that it was in, or "user". */
  call: string;
}

const KERNEL_ENTRY = /^__(?:x64|arm64)_sys_(\w+)$/;
/** Where a stack leaves the kernel; the next frame is the caller in the C library. */
const BORDER = /^(?:entry_SYSCALL_64_after_hwframe|el0t_64_sync)$/;

/** Names of the same call in the kernel and in the C library. */
const ALIASES: Record<string, string> = {
  recvfrom: "recv",
  sendto: "send",
  pread64: "pread",
  pwrite64: "pwrite",
};

/** @param script what `perf script -F comm,ip,sym` prints: a name, and a stack, innermost first */
export function samples(script: string): Sample[] {
  return script
    .split("\n\n")
    .filter((text) => text.trim() !== "")
    .map((text) => {
      const [comm = "", ...frames] = text.trim().split("\n");
      return { comm: comm.trim(), call: callOf(frames.map(symbolOf)) };
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
    entry ?? (border < 0 ? undefined : stack[border + 1]?.replace(/^_*(GI_*|libc_)?/, ""));
  if (name === undefined || !/^[a-z]/.test(name)) return "user";
  return ALIASES[name] ?? name;
}
