/**
 * Finds listening sockets in /proc/net (proc_pid_net(5)). The program that listens would take a test
 * connection for the stream.
 */
import { networkInterfaces } from "node:os";
import { addressBytes } from "../../ffi/socket.ts";
import { hasOpen, processes, readOrNothing } from "./proc.ts";
import { isSameFile } from "./same-file.ts";

/** The flag of a listening socket (__SO_ACCEPTCON). */
const ACCEPTS = 0x10000;
const STREAM = "0001";

/** Whether a process listens on the Unix socket at `path`; undefined if /proc/net/unix is not readable. */
export function hasUnixListener(path: string): boolean | undefined {
  const text = readOrNothing("/proc/net/unix");
  if (text === undefined) return undefined;
  for (const line of text.split("\n").slice(1)) {
    const [, flags = "", type, inode = "", bound] =
      /^\S+ \S+ \S+ (\S+) (\S+) \S+ +(\d+) (.+)$/.exec(line) ?? [];
    if (bound === undefined || type !== STREAM) continue;
    if ((Number.parseInt(flags, 16) & ACCEPTS) === 0) continue;
    if (bound.startsWith("/") ? isSameFile(bound, path) : ownersSee(inode, bound, path))
      return true;
  }
  return false;
}

/** True when a relative name leads to `path` from the working directory of a process that has the socket. */
function ownersSee(inode: string, bound: string, path: string): boolean {
  if (bound.startsWith("@")) return false;
  return processes().some((pid) => {
    return isSameFile(`/proc/${pid}/cwd/${bound}`, path) && hasOpen(pid, `socket:[${inode}]`);
  });
}

/** True for an address of this machine. @param address from lookup() of node:dns */
export function isOwnAddress(address: string): boolean {
  if (address === "::1" || address.startsWith("127.")) return true;
  return Object.values(networkInterfaces()).some((all) => {
    return all?.some((one) => one.address === address);
  });
}

const LISTEN = "0A";

/** The wildcard addresses, in the form of {@link inKernelForm}. */
const ANY = new Set(["0".repeat(8), "0".repeat(32)]);

/**
 * Whether a process listens on a TCP port of this machine.
 *
 * @param address of this machine; with IPv6, every listener on the port counts
 * @returns undefined if /proc/net is not readable
 */
export function hasTcpListener(address: string, port: number): boolean | undefined {
  const texts = ["/proc/net/tcp", "/proc/net/tcp6"].map((path) => readOrNothing(path));
  if (texts.every((text) => text === undefined)) return undefined;
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  const own = inKernelForm(address);
  return texts.some((text = "") => {
    return text.split("\n").some((line) => {
      const [, local = "", , state] = line.trim().split(/\s+/);
      const [bound = "", number] = local.split(":");
      if (state !== LISTEN || number !== wanted) return false;
      return own === undefined || ANY.has(bound) || bound.endsWith(own);
    });
  });
}

/** An IPv4 address as /proc/net writes it: the number in memory, in hex; undefined for IPv6. */
function inKernelForm(address: string): string | undefined {
  const bytes = addressBytes(address);
  return bytes?.length === 4 ? bytes.toReversed().toHex().toUpperCase() : undefined;
}
