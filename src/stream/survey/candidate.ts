/** A stream that might be: the rule and a window of some size, without the data. */
import { Memory } from "../../../ffi/memory.ts";
import { NBD_OK } from "../../protocol/constants.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { WINDOW_BLOCK } from "../blocks.ts";
import { SequentialRule } from "../write/rule.ts";
import { Window } from "../write/window.ts";

/**
 * Runs that a window may hold: a client that scatters its data over more of them does not write
 * nearly in order, and would take more time to follow than it is worth.
 */
const MOST_RUNS = 4096;

/** All windows have their blocks here: only the accounts matter. */
const scratch = new Memory(WINDOW_BLOCK);

const nowhere = () => {};

/** What {@link SequentialRule}, which decides about real streams, says with a window of this size. */
export class Candidate {
  /** False once a request has been refused: this window is too small. */
  alive = true;
  readonly #rule: SequentialRule;

  /** @param size of the stream in bytes @param window bytes; 0 is none */
  constructor(
    size: Offset,
    readonly window: number,
  ) {
    this.#rule = new SequentialRule(
      size,
      window > 0 ? new Window(window, () => scratch) : undefined,
    );
  }

  /** How much of the window was needed, in bytes. */
  get needed(): number {
    return this.#rule.window?.needed ?? 0;
  }

  /** A WRITE, in the order in which a real stream would take it. */
  write(offset: Offset, length: number): void {
    if (!this.alive) return;
    const rule = this.#rule;
    const { plan } = rule;
    this.alive = rule.planWrite(offset, length) === NBD_OK;
    while (this.alive && plan.kind === "advance") {
      rule.advance(nowhere, offset);
      this.alive = rule.planWrite(offset, length) === NBD_OK;
    }
    if (!this.alive) return;
    if (plan.kind === "hold") {
      const { window } = rule;
      window?.reserve(offset, add(offset, plan.emit));
      rule.hold(offset, plan.emit);
      this.alive = (window?.runs ?? 0) <= MOST_RUNS;
    } else {
      rule.claim();
    }
    while (rule.windowIsNext) rule.advance(nowhere);
  }

  /** A WRITE_ZEROES. */
  zero(offset: Offset, length: Offset): void {
    if (this.alive) this.alive = this.#rule.zero(offset, length) === NBD_OK;
  }
}
