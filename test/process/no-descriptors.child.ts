/** A process that kills a family when it has used up all of its descriptors; says what is left of it. */
import { openSync, closeSync } from "node:fs";
import { Family } from "../../src/process/family.ts";

const family = new Family("NBD_STREAMING_TEST", {
  cmd: ["/bin/sh", "-c", "sleep 60 & sleep 60 & wait"],
  env: process.env,
  stdio: ["null", "null", "null"],
  group: true,
});
while (family.members().length < 3) await Bun.sleep(10);
const used: number[] = [];
try {
  for (;;) used.push(openSync("/dev/null", "r"));
} catch {
  // That was the last one.
}
family.kill();
await family.leader.exited;
for (const fd of used) closeSync(fd);
await family.gone(5000);
console.log(JSON.stringify({ signal: family.leader.signalCode, left: family.members().length }));
process.exit(0);
