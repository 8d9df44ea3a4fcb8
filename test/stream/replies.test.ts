import { describe, expect, test } from "bun:test";
import { type Body, BytesBody, Replies, ZeroBody } from "../../src/stream/replies.ts";
import { Descriptors, readAll } from "../ffi/descriptors.ts";
import { pseudoRandom } from "../support/images.ts";

const CAPACITY = 4096;
const SIMPLE = { structured: false, extended: false, allocation: false };

function add(replies: Replies, text: string): void {
  replies.memory.bytes.set(Buffer.from(text), replies.end);
  replies.added(text.length);
}

/** Sends all, while the other end takes it. @returns what came out there */
function flushAll(replies: Replies, far: number): Buffer {
  const parts: Buffer[] = [];
  while (!replies.flush()) parts.push(readAll(far));
  parts.push(readAll(far));
  return Buffer.concat(parts);
}

describe("Replies", () => {
  test("collect, and leave together in order", () => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const replies = new Replies(near, CAPACITY, SIMPLE);
    expect([replies.empty, replies.room]).toEqual([true, CAPACITY]);
    add(replies, "abc");
    add(replies, "de");
    expect([replies.empty, replies.room]).toEqual([false, CAPACITY - 5]);
    expect(readAll(far).length).toBe(0);
    expect(replies.flush()).toBeTrue();
    expect(readAll(far).toString()).toBe("abcde");
    expect([replies.empty, replies.room]).toEqual([true, CAPACITY]);
  });

  test.each([1, 300_000, 5_000_000])("a body of %d bytes follows its header", (length) => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const replies = new Replies(near, CAPACITY, SIMPLE);
    const bytes = pseudoRandom(length);
    for (const [body, want] of [
      [new BytesBody(Uint8Array.from(bytes)), bytes],
      [new ZeroBody().start(length), Buffer.alloc(length)],
    ] as const) {
      add(replies, "header");
      replies.follow(body);
      expect([replies.inBody, replies.room]).toEqual([true, 0]);
      const sent = flushAll(replies, far);
      expect(sent.equals(Buffer.concat([Buffer.from("header"), want]))).toBeTrue();
      expect([replies.inBody, replies.empty]).toEqual([false, true]);
    }
  });

  test("for a client that is gone are thrown away, its body with them", () => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const replies = new Replies(near, CAPACITY, SIMPLE);
    fds.close(far);
    add(replies, "abc");
    replies.follow(new ZeroBody().start(10));
    expect(replies.flush()).toBeTrue();
    expect([replies.empty, replies.inBody, replies.room]).toEqual([true, false, CAPACITY]);
  });

  test.each([
    { when: "is sent", end: (replies: Replies, far: number) => void flushAll(replies, far) },
    {
      when: "finds its client gone",
      end(replies: Replies, far: number, fds: Descriptors) {
        fds.close(far);
        expect(replies.flush()).toBeTrue();
      },
    },
    { when: "is never sent", end: (replies: Replies) => replies.close() },
  ])("a body that $when gives its memory back", ({ end }) => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const replies = new Replies(near, CAPACITY, SIMPLE);
    const bytes = new Uint8Array(5_000_000);
    replies.follow(new BytesBody(bytes));
    expect(replies.flush()).toBeFalse();
    expect(bytes.length).toBe(5_000_000);
    end(replies, far, fds);
    expect(bytes.length).toBe(0);
    expect(replies.empty).toBeTrue();
    replies.close();
  });

  test("let a failure through that is not the client's", () => {
    using fds = new Descriptors();
    const [near] = fds.socketpair();
    const replies = new Replies(near, CAPACITY, SIMPLE);
    const body: Body = {
      send() {
        throw new RangeError("of the source");
      },
    };
    replies.follow(body);
    expect(() => replies.flush()).toThrow("of the source");
    expect(replies.inBody).toBeTrue();
  });
});
