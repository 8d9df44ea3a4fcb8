/**
 * A program that goes on while the stream thread of a stream that it has stopped is stuck in a system
 * call. Says how the stream has ended, and of how many of its own files the thread has read.
 */
import { openSync, readFileSync, writeFileSync } from "node:fs";
import { run } from "../../src/index.ts";

const [folder = "", seconds = ""] = process.argv.slice(2);
const pipe = openSync(`${folder}/out`, "w");
const client = `printf x | nbdcopy - "$uri"`;
const stream = run({ pipe, size: "64k", command: client });
stream.once("listening", () => setTimeout(() => stream.stop(), 1000));
const end = await stream.then(
  () => "complete",
  (error: unknown) => (error as Error).message,
);
writeFileSync(`${folder}/file`, "0123456789".repeat(10));
const files = Array.from({ length: 12 }, () => openSync(`${folder}/file`, "r"));
await Bun.sleep(Number(seconds) * 1000);
const isRead = (fd: number) =>
  !/^pos:\s*0$/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"));
console.log(JSON.stringify({ end, read: files.filter(isRead).length }));
process.exit(0);
