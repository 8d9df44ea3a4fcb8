import { afterEach, expect, test } from "bun:test";
import { close } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { send, socketpair } from "../../ffi/socket.ts";
import { BufferPool, Input } from "../../src/stream/input.ts";

const HEADER = 28;

let [near, far] = [-1, -1];

/** The input of a connection whose client has sent this. */
function open(text: string): Input {
  [near, far] = socketpair();
  say(text);
  return new Input(far, new BufferPool(), HEADER, new Uint8Array(0));
}

function say(text: string): void {
  const bytes = new Memory(Buffer.from(text));
  expect(send(near, bytes.at(0), bytes.length)).toBe(text.length);
}

function peek(input: Input): string {
  return Buffer.from(input.peek(input.available)).toString();
}

afterEach(() => {
  close(near);
  close(far);
});

test("what is less than a header is there again behind what comes next, without a buffer meanwhile", () => {
  const input = open("abcdef");
  input.receive();
  input.consume(2);
  input.release();
  expect(input.available).toBe(4);
  expect(input.view.byteLength).toBe(0);
  say("ghi");
  input.receive();
  expect(peek(input)).toBe("cdefghi");
});

test("what is consumed without a buffer does not come again", () => {
  const input = open("abcdef");
  input.receive();
  input.consume(1);
  input.release();
  input.consume(3);
  expect(input.available).toBe(2);
  input.release();
  say("ghi");
  input.receive();
  expect(peek(input)).toBe("efghi");
  input.consume(3);
  input.release();
  input.consume(2);
  expect(input.available).toBe(0);
  say("jkl");
  input.receive();
  expect(peek(input)).toBe("jkl");
});

test("a whole header keeps its buffer", () => {
  const input = open("h".repeat(HEADER));
  input.receive();
  input.release();
  expect(peek(input)).toBe("h".repeat(HEADER));
});
