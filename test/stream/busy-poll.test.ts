import { expect, test } from "bun:test";
import { POLLIN } from "../../ffi/constants.ts";
import { PollSet, WakeUp } from "../../ffi/poll.ts";
import { BusyPoll } from "../../src/stream/busy-poll.ts";

/** Milliseconds; longer than any staying awake. */
const LONG = 3;

/** Counts the calls of poll(2). */
class CountingPollSet extends PollSet {
  waits = 0;

  override wait(timeout: number): number {
    this.waits++;
    return super.wait(timeout);
  }
}

class Scene {
  readonly wake = new WakeUp();
  readonly poll = new CountingPollSet();
  readonly #busyPoll = new BusyPoll();

  /** One wait. @returns how often poll(2) was called */
  wait(timeout: number): number {
    this.poll.clear();
    this.poll.add(this.wake.fd, POLLIN);
    this.poll.waits = 0;
    if (!this.#busyPoll.spin(this.poll)) this.#busyPoll.sleep(this.poll, timeout);
    return this.poll.waits;
  }

  /** Waits in vain until it is not worth staying awake any more. */
  tire(): void {
    for (let i = 0; i < 20; i++) this.wait(LONG);
  }

  [Symbol.dispose](): void {
    this.wake.close();
  }
}

test("what is there already is reported at once", () => {
  using scene = new Scene();
  scene.wake.signal();
  expect(scene.wait(-1)).toBe(1);
  expect(scene.poll.revents(0)).toBe(POLLIN);
});

test("it looks more than once before it sleeps", () => {
  using scene = new Scene();
  expect(scene.wait(LONG)).toBeGreaterThan(1);
});

test("the timeout ends a wait in vain", () => {
  using scene = new Scene();
  const start = performance.now();
  scene.wait(20);
  expect(performance.now() - start).toBeGreaterThan(19);
  expect(scene.poll.revents(0)).toBe(0);
});

test("after waiting in vain again and again it sleeps at once", () => {
  using scene = new Scene();
  scene.tire();
  expect(scene.wait(LONG)).toBe(1);
});

test("after a short sleep it stays awake again", () => {
  using scene = new Scene();
  scene.tire();
  scene.wake.signal();
  // Of some such waits, one at least is not held up by what else the machine does.
  for (let i = 0; i < 20; i++) scene.wait(LONG);
  scene.wake.clear();
  expect(scene.wait(LONG)).toBeGreaterThan(1);
});
