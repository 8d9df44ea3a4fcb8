/** A process whose child starts a grandchild and ends; says on stdout who the parent is then. */
import { readFileSync } from "node:fs";
import { becomeSubreaper } from "../../ffi/process.ts";

if (process.argv[2] === "adopt") becomeSubreaper();

const shell = Bun.spawn(["sh", "-c", "sleep 30 >/dev/null 2>&1 & echo $!"], { stdout: "pipe" });
const orphan = Number(await new Response(shell.stdout).text());
await shell.exited;
const status = readFileSync(`/proc/${orphan}/status`, "latin1");
const parent = Number(/^PPid:\s*([0-9]+)$/m.exec(status)?.[1]);
process.kill(orphan, "SIGKILL");
console.log(JSON.stringify({ self: process.pid, parent }));
process.exit(0);
