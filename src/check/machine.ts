/** Whether this machine can run the program. */
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { glibcVersion, libcName } from "../../ffi/libc.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import { messageOf } from "../errors.ts";
import { procProblem } from "../process/proc.ts";
import { isBunRecent, WANTED_BUN } from "../runtime.ts";
import { MAX_SOCKET_PATH } from "../net/address.ts";
import { pipeCapacity, PROBES, tryProbe } from "./probes.ts";
import type { Item, State } from "./item.ts";

/** A pipe smaller than this costs speed, in bytes. */
const SMALL_PIPE = 1 << 20;

/** Looks at all of it. */
export function checkMachine(): Item[] {
  return [version(), system(), library(), processes(), ...folderAndCalls(), largestPipe()];
}

function item(name: string, state: State, text: string): Item {
  return { topic: "machine", name, state, text };
}

function version(): Item {
  const ok = isBunRecent(Bun.version);
  const text = `${Bun.version} (${WANTED_BUN} is needed)`;
  return item("Bun", ok ? "ok" : "failed", ok ? text : `${text}: bun upgrade`);
}

function system(): Item {
  const { platform, arch } = process;
  const ok = platform === "linux" && (arch === "x64" || arch === "arm64");
  const text = `${platform} ${release()}, ${arch}`;
  return item("kernel", ok ? "ok" : "failed", ok ? text : `${text}: it needs Linux, x64 or arm64`);
}

function library(): Item {
  const glibc = glibcVersion();
  const text = glibc === undefined ? `musl (found as ${libcName})` : `glibc ${glibc}`;
  return item("C library", "ok", text);
}

function processes(): Item {
  const problem = procProblem();
  if (problem === undefined) return item("/proc", "ok", "finding the processes of a command");
  const remedy = "is proc(5) mounted there, and of this PID namespace (mount -t proc proc /proc)?";
  return item("/proc", "failed", `${problem}: it is needed for exec: and run; ${remedy}`);
}

/** The folder for sockets, and the system calls, which are tried out in it. */
function folderAndCalls(): Item[] {
  let folder: PrivateFolder;
  try {
    folder = new PrivateFolder();
  } catch (error) {
    return [item("temporary folder", "failed", messageOf(error))];
  }
  try {
    const length = Buffer.byteLength(folder.socket);
    const fits = length <= MAX_SOCKET_PATH;
    const text = `a socket's path in it has ${length} bytes of at most ${MAX_SOCKET_PATH}: ${folder.path}`;
    const hint = `${text}; set TMPDIR to a shorter one`;
    return [
      item("temporary folder", fits ? "ok" : "failed", fits ? text : hint),
      ...PROBES.map((probe) => {
        const problem = tryProbe(probe, folder.path);
        return problem === undefined
          ? item(probe.name, "ok", probe.use)
          : item(probe.name, "failed", `${problem}: it is needed for ${probe.use}; ${SANDBOX}`);
      }),
    ];
  } finally {
    folder.remove();
  }
}

const SANDBOX = "is there a sandbox (seccomp, gVisor) that forbids it?";

function largestPipe(): Item {
  const name = "largest pipe";
  try {
    const size = pipeCapacity();
    if (size >= SMALL_PIPE) return item(name, "ok", `${size} bytes`);
    const limit = readFileSync("/proc/sys/fs/pipe-max-size", "latin1").trim();
    return item(
      name,
      "warning",
      `${size} bytes, which costs speed: see fs.pipe-max-size (${limit}) and fs.pipe-user-pages-soft`,
    );
  } catch (error) {
    return item(name, "failed", messageOf(error));
  }
}
