/** A process that starts another one, which lists its descriptors or does what the argument says. */
import { setNonBlocking } from "../../ffi/fd.ts";
import { exitState, spawn } from "../../ffi/spawn.ts";
import { eventually } from "../support/program.ts";

const [, , words = "exec ls /proc/self/fd"] = process.argv;
const argv = ["sh", "-c", words];
for (const fd of [1, 2]) setNonBlocking(fd, true);
const pid = spawn({ file: "/bin/sh", argv, env: process.env, stdio: [0, 1, 2], place: "here" });
await eventually(() => exitState(pid) !== undefined, "its end");
