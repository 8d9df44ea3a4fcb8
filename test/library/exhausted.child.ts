/** A program that has used up its descriptors when its streams are stopped; says how they have ended. */
import { closeSync, openSync } from "node:fs";
import { run, serve, type Streaming } from "../../src/index.ts";

const [socket = "", fifo = "", output = ""] = process.argv.slice(2);
const sink = (name: string) => `exec:cat > ${output}.${name}; echo end > ${output}.${name}.end`;
const streams = [
  serve({ pipe: sink("serve"), listen: { kind: "unix", path: socket } }),
  serve({ pipe: fifo, listen: { kind: "unix", path: `${socket}.fifo` } }),
  run({ pipe: sink("run"), command: ["sleep", "60"] }),
];
const ends = streams.map((stream: Streaming) =>
  stream.then(
    () => "complete",
    (error: unknown) => (error as Error).message,
  ),
);
await Promise.all(
  streams.map((stream) => new Promise((resolve) => stream.once("listening", resolve))),
);
await Bun.sleep(200);
const used: number[] = [];
try {
  for (;;) used.push(openSync("/dev/null", "r"));
} catch {
  // That was the last one.
}
for (const stream of streams) stream.stop();
const told = await Promise.all(ends);
for (const fd of used) closeSync(fd);
console.log(JSON.stringify(told));
process.exit(0);
