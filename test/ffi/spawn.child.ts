/** A process that was started with a descriptor that is not its own, and starts one that lists its own. */
import { endOf, spawn } from "../../ffi/spawn.ts";
import { eventually } from "../support/program.ts";

const argv = ["sh", "-c", "exec ls /proc/self/fd"];
const pid = spawn({ file: "/bin/sh", argv, env: process.env, stdio: [0, 1, 2], place: "here" });
await eventually(() => endOf(pid) !== undefined, "its end");
