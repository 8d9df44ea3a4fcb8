import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Worker } from "node:worker_threads";
import {
  O_CLOEXEC,
  O_NONBLOCK,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  POLLRDHUP,
} from "../../ffi/constants.ts";
import { pollOne, PollSet, WakeUp } from "../../ffi/poll.ts";
import { shutdownWrite } from "../../ffi/socket.ts";
import { bounded } from "../support/program.ts";
import { Descriptors, flagsOf, writeAll } from "./descriptors.ts";
import type { WakeUpTask } from "./wake-up.worker.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

describe("PollSet", () => {
  test("says which descriptors have something to report", () => {
    using descriptors = new Descriptors();
    const [silent, spoken] = [descriptors.pipe(), descriptors.pipe()];
    writeAll(spoken.write, Buffer.from("a"));
    const set = new PollSet();
    expect(set.add(silent.read, POLLIN)).toBe(0);
    expect(set.add(spoken.read, POLLIN)).toBe(1);
    expect(set.add(silent.write, POLLOUT)).toBe(2);
    expect(set.wait(0)).toBe(2);
    expect([0, 1, 2].map((index) => set.revents(index))).toEqual([0, POLLIN, POLLOUT]);
  });

  test("grows beyond its first 16 and keeps what it had", () => {
    using descriptors = new Descriptors();
    const pipes = Array.from({ length: 70 }, () => descriptors.pipe());
    const spoken = [0, 15, 16, 31, 32, 33, 69];
    for (const index of spoken) writeAll(pipes[index]?.write ?? -1, Buffer.from("a"));
    const set = new PollSet();
    expect(pipes.map((pipe) => set.add(pipe.read, POLLIN))).toEqual([...pipes.keys()]);
    expect(set.wait(0)).toBe(spoken.length);
    expect(pipes.flatMap((_, index) => (set.revents(index) === POLLIN ? [index] : []))).toEqual(
      spoken,
    );
  });

  test("starts anew after it is cleared", () => {
    using descriptors = new Descriptors();
    const [one, other] = [descriptors.pipe(), descriptors.pipe()];
    writeAll(one.write, Buffer.from("a"));
    const set = new PollSet();
    set.add(one.read, POLLIN);
    expect(set.wait(0)).toBe(1);
    set.clear();
    expect(set.wait(0)).toBe(0);
    expect(set.add(other.read, POLLIN)).toBe(0);
    expect(set.revents(0)).toBe(0);
    expect(set.wait(0)).toBe(0);
  });

  test("waits until the timeout, or until something happens before it", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    const set = new PollSet();
    set.add(pipe.read, POLLIN);
    expect(set.wait(1)).toBe(0);
    // Another process speaks while this one sleeps; it has been told no sooner that it may.
    const other = Bun.spawn(["sh", "-c", "sleep 0.2; echo", "sh"], {
      stdio: ["ignore", pipe.write, "ignore"],
    });
    expect(set.wait(0)).toBe(0);
    expect(set.wait(30_000)).toBe(1);
    expect(set.revents(0)).toBe(POLLIN);
    other.kill("SIGKILL");
  });

  test("reports the other end's departure unasked", () => {
    using descriptors = new Descriptors();
    const [unread, unwritten] = [descriptors.pipe(), descriptors.pipe()];
    descriptors.close(unread.read);
    descriptors.close(unwritten.write);
    const set = new PollSet();
    set.add(unread.write, 0);
    set.add(unwritten.read, 0);
    set.add(2 ** 30, POLLIN);
    expect(set.wait(-1)).toBe(3);
    expect([0, 1, 2].map((index) => set.revents(index))).toEqual([POLLERR, POLLHUP, POLLNVAL]);
  });

  test("reports a peer that has only finished sending as POLLRDHUP", () => {
    using descriptors = new Descriptors();
    const [peer, socket] = descriptors.socketpair();
    shutdownWrite(peer);
    const set = new PollSet();
    set.add(socket, POLLRDHUP);
    expect(set.wait(0)).toBe(1);
    expect(set.revents(0)).toBe(POLLRDHUP);
  });
});

describe("pollOne", () => {
  test("reports what there is now, and nothing of the descriptor before", () => {
    using descriptors = new Descriptors();
    const [spoken, silent] = [descriptors.pipe(), descriptors.pipe()];
    writeAll(spoken.write, Buffer.from("a"));
    expect(pollOne(spoken.read, POLLIN)).toBe(POLLIN);
    expect(pollOne(silent.read, POLLIN)).toBe(0);
    expect(pollOne(silent.read, POLLIN, 1)).toBe(0);
    expect(pollOne(silent.write, POLLOUT, 30_000)).toBe(POLLOUT);
  });

  test("reports the other end's departure unasked", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    descriptors.close(pipe.read);
    expect(pollOne(pipe.write, 0)).toBe(POLLERR);
  });
});

describe("WakeUp", () => {
  const workers: Worker[] = [];
  const wakeUps: WakeUp[] = [];

  afterEach(async () => {
    for (const worker of workers.splice(0)) await worker.terminate();
    for (const wakeUp of wakeUps.splice(0)) wakeUp.close();
  });

  function make(): WakeUp {
    const wakeUp = new WakeUp();
    wakeUps.push(wakeUp);
    return wakeUp;
  }

  async function startWorker(task: WakeUpTask): Promise<Worker> {
    const worker = new Worker(new URL("./wake-up.worker.ts", import.meta.url), {
      workerData: task,
    });
    workers.push(worker);
    expect(await message(worker)).toBe("ready");
    return worker;
  }

  function message(worker: Worker): Promise<unknown> {
    return bounded(
      new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      }),
      "the worker",
    );
  }

  test("does not block, and no child inherits it", () => {
    expect(flagsOf(make().fd) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
  });

  test("is readable from the first signal until it is cleared", () => {
    const wakeUp = make();
    const set = new PollSet();
    set.add(wakeUp.fd, POLLIN);
    expect(set.wait(0)).toBe(0);
    wakeUp.signal();
    wakeUp.signal();
    expect(set.wait(0)).toBe(1);
    expect(set.wait(0)).toBe(1);
    wakeUp.clear();
    expect(set.wait(0)).toBe(0);
    wakeUp.clear();
    wakeUp.signal();
    expect(set.wait(0)).toBe(1);
  });

  test("made from a descriptor is the same one", () => {
    const wakeUp = make();
    const same = new WakeUp(wakeUp.fd);
    expect(same.fd).toBe(wakeUp.fd);
    same.signal();
    const set = new PollSet();
    set.add(wakeUp.fd, POLLIN);
    expect(set.wait(0)).toBe(1);
  });

  test("is signalled by another thread while this one waits", async () => {
    const wakeUp = make();
    const go = new Int32Array(new SharedArrayBuffer(4));
    await startWorker({ fd: wakeUp.fd, role: "signaller", go });
    const set = new PollSet();
    set.add(wakeUp.fd, POLLIN);
    Atomics.store(go, 0, 1);
    Atomics.notify(go, 0);
    expect(set.wait(10_000)).toBe(1);
    expect(set.revents(0)).toBe(POLLIN);
  });

  test("wakes another thread that waits", async () => {
    const wakeUp = make();
    const go = new Int32Array(new SharedArrayBuffer(4));
    const worker = await startWorker({ fd: wakeUp.fd, role: "sleeper", go });
    const woken = message(worker);
    await Bun.sleep(50);
    wakeUp.signal();
    expect(await woken).toEqual({ reported: 1, revents: POLLIN, left: 0 });
  });
});
