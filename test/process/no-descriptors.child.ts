/** A process that kills a tree when it has used up all of its descriptors; says what is left of it. */
import { openSync, closeSync } from "node:fs";
import { ProcessTree } from "../../src/process/process-tree.ts";

const tree = new ProcessTree("NBD_STREAMING_TEST", {
  cmd: ["/bin/sh", "-c", "sleep 60 & sleep 60 & wait"],
  env: process.env,
  stdio: ["null", "null", "null"],
  group: true,
});
while (tree.members().length < 3) await Bun.sleep(10);
const used: number[] = [];
try {
  for (;;) used.push(openSync("/dev/null", "r"));
} catch {
  // That was the last one.
}
tree.kill();
await tree.child.exited;
for (const fd of used) closeSync(fd);
await tree.waitForExit(5000);
console.log(JSON.stringify({ signal: tree.child.signalCode, left: tree.members().length }));
process.exit(0);
