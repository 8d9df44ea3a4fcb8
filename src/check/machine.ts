/** Whether this machine can run the program. The self-test tries the other system calls. */
import { release } from "node:os";
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { close } from "../../ffi/fd.ts";
import { glibcVersion, libcName } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";
import { closePipe, growPipe, pipe, splice } from "../../ffi/pipe.ts";
import { send, socketpair } from "../../ffi/socket.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import { messageOf } from "../errors.ts";
import { procProblem } from "../process/proc.ts";
import { requireRecentBun } from "../runtime.ts";
import { type Item, ItemList } from "./report.ts";
import { addFolder, inspectFolder, USUAL_FOLDER } from "./spool.ts";

/** Bytes; a smaller pipe costs speed. */
const SMALL_PIPE = 1 << 20;

/** @param spool the folder of `spool=`, if the user has named one */
export function checkMachine(spool?: string): readonly Item[] {
  const found = new ItemList("machine");
  tryOut(found, "Bun", () => {
    requireRecentBun(Bun.version);
    return ["ok", Bun.version];
  });
  found.add("ok", "kernel", `${process.platform} ${release()}, ${process.arch}`);
  const glibc = glibcVersion();
  const library = glibc === undefined ? `musl (found as ${libcName})` : `glibc ${glibc}`;
  found.add("ok", "C library", library);
  const problem = procProblem();
  const remedy = "is proc(5) mounted there, and of this PID namespace (mount -t proc proc /proc)?";
  const need = `${problem}: it is needed for exec: and run; ${remedy}`;
  found.check(problem === undefined, "/proc", "finding the processes of a command", need);
  tryOut(found, "temporary folder", tryFolder);
  tryOut(found, "largest pipe", tryPipe);
  tryOut(found, "splice", trySplice);
  const folder = inspectFolder(spool ?? USUAL_FOLDER);
  if (folder.problem === undefined || spool !== undefined) addFolder(found, folder);
  // Nobody has asked for that one.
  else found.add("note", "spool=", folder.problem);
  return found.items;
}

type Finding = readonly [state: Item["state"], text: string];

/** Adds what a trial returns, or the error that it throws. */
function tryOut(found: ItemList, name: string, trial: () => Finding): void {
  try {
    const [state, text] = trial();
    found.add(state, name, text);
  } catch (error) {
    found.add("failed", name, messageOf(error));
  }
}

function tryFolder(): Finding {
  const folder = new PrivateFolder();
  folder.remove();
  return ["ok", folder.path];
}

function tryPipe(): Finding {
  const size = pipeCapacity();
  if (size >= SMALL_PIPE) return ["ok", `${size} bytes`];
  const see = "see fs.pipe-max-size and fs.pipe-user-pages-soft";
  return ["warning", `${size} bytes, which costs speed: ${see}`];
}

/** The size to which a new pipe can be grown, in bytes. */
export function pipeCapacity(): number {
  const ends = pipe(O_NONBLOCK);
  try {
    return growPipe(ends.write);
  } finally {
    closePipe(ends);
  }
}

/** The self-test would not name this call: to a stream, its failure is that of the client's connection. */
function trySplice(): Finding {
  const [near, far] = socketpair();
  const ends = pipe(O_NONBLOCK);
  const data = new Memory(Buffer.from("nbd-streaming"));
  try {
    send(near, data.at(0), data.length);
    const moved = splice(far, ends.write, data.length);
    if (moved !== data.length) throw new Error(`it has moved ${moved} bytes of ${data.length}`);
    return ["ok", "data without a copy, from a socket to a pipe"];
  } finally {
    for (const fd of [near, far, ends.read, ends.write]) close(fd);
  }
}
