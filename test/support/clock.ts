/** Time that a test has pass. */
import { spyOn } from "bun:test";

/**
 * Stands for `performance.now()` of this thread until `using` is over, so that nothing times out, or is
 * idle, because the machine is busy. Each look at it takes a microsecond: what waits by it does end.
 */
export class TestClock implements Disposable {
  #now = performance.now();
  readonly #spy = spyOn(performance, "now").mockImplementation(() => (this.#now += 0.001));

  /** Has so many milliseconds pass. */
  pass(milliseconds: number): void {
    this.#now += milliseconds;
  }

  [Symbol.dispose](): void {
    this.#spy.mockRestore();
  }
}
