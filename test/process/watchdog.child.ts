/** A process that is killed while a command is watched, or is about to be. */
import { readFileSync, writeFileSync } from "node:fs";
import { close } from "../../ffi/fd.ts";
import { pipe } from "../../ffi/pipe.ts";
import { ProcessTree } from "../../src/process/process-tree.ts";
import { Watchdog } from "../../src/process/watchdog.ts";
import { eventually } from "../support/program.ts";

const [when = "", done = ""] = process.argv.slice(2);
const ends = pipe();
const watchdog = new Watchdog(ends.write);
const children = readFileSync(`/proc/self/task/${process.pid}/children`, "latin1").trim();
let commandPid = "";
if (when !== "before the command") {
  const tree = new ProcessTree("NBD_STREAMING_TEST", {
    ...watchdog.watch(`cat; echo done > ${done}`, [ends.read, 1, 2]),
    env: process.env,
    group: true,
  });
  close(ends.read);
  commandPid = String(tree.child.pid);
  const isCat = (pid: number) => readFileSync(`/proc/${pid}/comm`, "latin1") === "cat\n";
  if (when === "while it reads") await eventually(() => tree.members().some(isCat), "cat");
}
writeFileSync(`${done}.pids`, `${children} ${commandPid}`);
process.kill(process.pid, "SIGKILL");
