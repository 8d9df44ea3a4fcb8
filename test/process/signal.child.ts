/** A process that signals what it has started; says on stdout what is left of it. */
import { becomeSubreaper } from "../../ffi/process.ts";
import { descendants, signalAll } from "../../src/process/proc.ts";
import { eventually } from "../support/program.ts";

becomeSubreaper();
const shell = Bun.spawn(["sh", "-c", "sleep 30 & sleep 30 & wait"]);
await eventually(() => descendants([process.pid]).length === 3, "the tree");
const before = descendants([process.pid]).length;
signalAll(descendants([process.pid]), "SIGTERM");
await shell.exited;
await eventually(() => descendants([process.pid]).length === 0, "all to end");
const after = descendants([process.pid]).length;
console.log(JSON.stringify({ before, after, signal: shell.signalCode }));
process.exit(0);
