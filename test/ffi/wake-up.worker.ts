/** The other thread in the tests of WakeUp. */
import { parentPort, workerData } from "node:worker_threads";
import { POLLIN } from "../../ffi/constants.ts";
import { PollSet, WakeUp } from "../../ffi/poll.ts";

export interface WakeUpTask {
  readonly fd: number;
  readonly role: "signaller" | "sleeper";
  /** Becomes 1 when the signaller is to start. */
  readonly go: Int32Array<SharedArrayBuffer>;
}

/** Milliseconds that the signaller leaves the other side to fall asleep. */
const DELAY = 50;
/** Milliseconds after which to give up. */
const WAIT_LIMIT = 10_000;

const { fd, role, go } = workerData as WakeUpTask;
const wakeUp = new WakeUp(fd);
parentPort?.postMessage("ready");
if (role === "signaller") {
  Atomics.wait(go, 0, 0, WAIT_LIMIT);
  Bun.sleepSync(DELAY);
  wakeUp.signal();
} else {
  const set = new PollSet();
  set.add(fd, POLLIN);
  const reported = set.wait(WAIT_LIMIT);
  const revents = set.revents(0);
  wakeUp.clear();
  parentPort?.postMessage({ reported, revents, left: set.wait(0) });
}
