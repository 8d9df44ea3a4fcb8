import { expect, type Mock, spyOn, test } from "bun:test";
import { POLLIN } from "../../ffi/constants.ts";
import { PollSet, WakeUp } from "../../ffi/poll.ts";
import { BusyPoll } from "../../src/stream/busy-poll.ts";

/** Milliseconds; longer than any staying awake. */
const LONG = 3;
/** Milliseconds that a look takes: so many of them fit into the time of staying awake. */
const LOOK = 0.03;

/** A poll set whose calls are recorded, and on whose clock nothing but they take time. */
class ClockedPollSet extends PollSet {
  now = 0;
  /** The timeouts of the calls of poll(2) so far. */
  timeouts: number[] = [];

  override wait(timeout: number): number {
    this.timeouts.push(timeout);
    const reported = super.wait(0);
    this.now += timeout === 0 ? LOOK : reported > 0 ? 0 : timeout;
    return reported;
  }
}

/** A loop that waits for one descriptor. */
class Loop {
  readonly wake = new WakeUp();
  readonly poll = new ClockedPollSet();
  readonly #busyPoll: BusyPoll;
  readonly #clock: Mock<() => number>;

  constructor(processors = 2) {
    this.#busyPoll = new BusyPoll(processors);
    this.#clock = spyOn(performance, "now").mockImplementation(() => this.poll.now);
  }

  /** One wait. @returns the timeouts of its calls of poll(2): a look has none */
  wait(timeout: number): number[] {
    this.poll.clear();
    this.poll.add(this.wake.fd, POLLIN);
    this.poll.timeouts = [];
    if (!this.#busyPoll.spin(this.poll)) this.#busyPoll.sleep(this.poll, timeout);
    return this.poll.timeouts;
  }

  /** Waits in vain until it is not worth staying awake any more. */
  tire(): void {
    for (let i = 0; i < 20; i++) this.wait(LONG);
  }

  [Symbol.dispose](): void {
    this.#clock.mockRestore();
    this.wake.close();
  }
}

test("what is there already is reported by the first look", () => {
  using loop = new Loop();
  loop.wake.signal();
  expect(loop.wait(-1)).toEqual([0]);
  expect(loop.poll.revents(0)).toBe(POLLIN);
});

test("it looks more than once before it sleeps", () => {
  using loop = new Loop();
  expect(loop.wait(LONG)).toEqual([0, 0, 0, 0, LONG]);
});

test("with one processor it looks once before it sleeps", () => {
  using loop = new Loop(1);
  expect(loop.wait(LONG)).toEqual([0, LONG]);
});

test("what comes while it is awake is reported without a sleep", () => {
  using loop = new Loop();
  const wait = loop.poll.wait.bind(loop.poll);
  loop.poll.wait = (timeout) => {
    if (loop.poll.timeouts.length === 2) loop.wake.signal();
    return wait(timeout);
  };
  expect(loop.wait(LONG)).toEqual([0, 0, 0]);
  expect(loop.poll.revents(0)).toBe(POLLIN);
});

test("the timeout ends a wait in vain", () => {
  using loop = new Loop();
  expect(loop.wait(20).at(-1)).toBe(20);
  expect(loop.poll.revents(0)).toBe(0);
});

test("after waiting in vain again and again it sleeps without a look", () => {
  using loop = new Loop();
  loop.tire();
  expect(loop.wait(LONG)).toEqual([LONG]);
});

test("after a short sleep it stays awake again", () => {
  using loop = new Loop();
  loop.tire();
  loop.wake.signal();
  expect(loop.wait(LONG)).toEqual([LONG]);
  loop.wake.clear();
  expect(loop.wait(LONG)).toEqual([0, 0, 0, 0, LONG]);
});
