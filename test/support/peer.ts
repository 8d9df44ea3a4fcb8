/**
 * The client's end of a connection to an engine that a test turns by hand. It is no RawClient because
 * both ends are in one thread, and nothing in it may wait: what moves is moved by the turns.
 */
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { Memory } from "../../ffi/memory.ts";
import { recv, send, shutdownWrite } from "../../ffi/socket.ts";
import { decode, decodeReply } from "./replies.ts";

const scratch = new Memory(1 << 20);

export class Peer {
  #unsent = Buffer.alloc(0);
  #received: Buffer[] = [];
  #available = 0;
  /** The engine has closed the connection. */
  finished = false;
  /** While true, it takes nothing of what comes. */
  deaf = false;
  /** Its link is dead: nothing goes or comes any more, and nobody is told. */
  dead = false;
  /** The most bytes that leave at once. */
  pace = 1 << 18;

  constructor(readonly fd: number) {}

  /** Queues bytes; they leave as the socket takes them. */
  send(...parts: Uint8Array[]): this {
    this.#unsent = Buffer.concat([this.#unsent, ...parts]);
    return this;
  }

  /** Bytes that came and were not taken yet. */
  get available(): number {
    return this.#available;
  }

  get allSent(): boolean {
    return this.#unsent.length === 0;
  }

  take(length: number): Buffer {
    const all = Buffer.concat(this.#received);
    const bytes = all.subarray(0, length);
    this.#received = [all.subarray(length)];
    this.#available -= bytes.length;
    return bytes;
  }

  /** All complete replies so far; only for tests without READ. */
  takeReplies(): { error: number; cookie: bigint }[] {
    const replies: { error: number; cookie: bigint }[] = [];
    while (this.available >= 16) {
      const { error, cookie } = decode(decodeReply(), (length) => this.take(length));
      replies.push({ error, cookie });
    }
    return replies;
  }

  /** Says that nothing more will come, but still listens. */
  halfClose(): void {
    shutdownWrite(this.fd);
  }

  /** @returns true when anything moved */
  pump(): boolean {
    if (this.dead) return false;
    let moved = false;
    if (this.#unsent.length > 0 && !this.finished) {
      const part = new Memory(Buffer.from(this.#unsent.subarray(0, this.pace)));
      const n = unlessClosed(() => send(this.fd, part.at(0), part.length));
      // What is left to say is for nobody; what has been answered is still to be taken.
      if (n === undefined) this.#unsent = Buffer.alloc(0);
      else if (n > 0) {
        this.#unsent = this.#unsent.subarray(n);
        moved = true;
      }
    }
    const silent = this.finished || this.deaf;
    const take = () => recv(this.fd, scratch.at(0), scratch.length);
    const n = silent ? WOULD_BLOCK : (unlessClosed(take) ?? 0);
    if (n > 0) {
      this.#received.push(Buffer.from(scratch.bytes.subarray(0, n)));
      this.#available += n;
      moved = true;
    } else if (n === 0) {
      this.finished = true;
      moved = true;
    }
    return moved;
  }
}

/** The engine may close while there is more for it. @returns undefined when it has */
function unlessClosed(call: () => number): number | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}
