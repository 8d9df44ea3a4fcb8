/** A process that gets signals in the middle of a call; says on stdout what the calls gave. */
import { checked, interrupted, lastErrno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";

/** Milliseconds that a call waits, and after which the signal comes. */
const WAIT = 2000;
const SIGNAL = "0.3";

const nothing = new Memory(8);

function signalSoon(): void {
  Bun.spawn(["sh", "-c", `sleep ${SIGNAL}; kill -USR1 ${process.pid}`]);
}

process.on("SIGUSR1", () => {});

signalSoon();
const result = libc.poll(nothing.at(0), 0, WAIT);
const bare = { result, errno: lastErrno(), again: interrupted("poll") };

signalSoon();
let attempts = 0;
const repeated = checked("poll", () => {
  // Only the first attempt waits long enough to be interrupted.
  return libc.poll(nothing.at(0), 0, attempts++ === 0 ? WAIT : 0);
});
console.log(JSON.stringify({ bare, attempts, result: repeated }));
process.exit(0);
