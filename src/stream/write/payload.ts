/** The payload of one WRITE, from the client to where the rule wants it. */
import { add, type Offset } from "../../protocol/offset.ts";
import type { WritePlan } from "./rule.ts";

/**
 * The parts of a payload in the order in which they come: what is skipped because it is in the
 * stream already, what goes to the sink or into the window, and what is dropped. One object of a
 * connection is filled again for every WRITE.
 */
export class Payload {
  /** Bytes that are out already, and only compared. */
  skip = 0;
  /** Where in the stream the next of these lies. */
  skipAt: Offset = 0;
  /** Bytes that go to the sink. */
  emit = 0;
  /** Bytes that go into the window. */
  hold = 0;
  /** Where in the stream the next of these belongs. */
  holdAt: Offset = 0;
  /** Bytes that go nowhere: a refused payload, or zeroes in the last sector's rest. */
  drop = 0;

  /** Takes on an admitted WRITE. */
  admit(plan: WritePlan, offset: Offset): void {
    const held = plan.kind === "hold";
    this.skip = plan.skip;
    this.skipAt = offset;
    this.emit = held ? 0 : plan.emit;
    this.hold = held ? plan.emit : 0;
    this.holdAt = plan.skip > 0 ? add(offset, plan.skip) : offset;
    this.drop = plan.tail;
  }

  /** Takes on a refused WRITE. */
  refuse(length: number): void {
    this.skip = 0;
    this.emit = 0;
    this.hold = 0;
    this.drop = length;
  }

  /** What is still to go to the sink, or to be skipped or held, is dropped instead. */
  abandon(): void {
    this.refuse(this.left);
  }

  /** Bytes still to come from the client. */
  get left(): number {
    return this.skip + this.emit + this.hold + this.drop;
  }

  /** True while bytes of it, if they do not come, leave a hole in what has been promised. */
  get promised(): boolean {
    return this.emit > 0;
  }
}
