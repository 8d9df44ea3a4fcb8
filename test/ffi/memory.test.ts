import { describe, expect, test } from "bun:test";
import { write, writev } from "../../ffi/fd.ts";
import { IoVec, Memory } from "../../ffi/memory.ts";
import { Descriptors, readAll } from "./descriptors.ts";

/** What the kernel finds behind a vector. */
function gathered(vector: IoVec): string {
  using descriptors = new Descriptors();
  const pipe = descriptors.pipe();
  if (vector.count > 0) writev(pipe.write, vector);
  return readAll(pipe.read).toString("latin1");
}

/** Memory with the letters of `text`. */
function letters(text: string): Memory {
  return new Memory(new TextEncoder().encode(text));
}

describe("Memory", () => {
  test("made by length is zero-filled", () => {
    const memory = new Memory(24);
    expect(memory.length).toBe(24);
    expect(memory.bytes).toEqual(new Uint8Array(24));
  });

  test("copies from another, and only what is there and fits", () => {
    const memory = letters("..........");
    const source = letters("abcdef");
    memory.copyFrom(source, 1, 3, 5);
    expect(Buffer.from(memory.bytes).toString()).toBe(".....bcd..");
    memory.copyFrom(source, 6, 0, 10);
    expect(() => memory.copyFrom(source, 4, 3, 0)).toThrow(RangeError);
    expect(() => memory.copyFrom(source, 0, 3, 8)).toThrow(RangeError);
    expect(Buffer.from(memory.bytes).toString()).toBe(".....bcd..");
  });

  test("shares its bytes with its view and its source", () => {
    const source = new Uint8Array(8);
    const memory = new Memory(source);
    memory.view.setUint32(4, 0x01020304);
    expect([...source]).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
  });

  test("gives C the address of every byte", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    const memory = letters("abcdef");
    write(pipe.write, memory.at(4), 2);
    write(pipe.write, memory.at(0), 3);
    expect(readAll(pipe.read).toString()).toBe("efabc");
  });

  test("that is given back has no bytes any more", () => {
    const memory = letters("abcdef");
    memory.free();
    expect(memory.bytes.length).toBe(0);
  });

  test("of a part of an array starts where the part starts", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    const memory = new Memory(new TextEncoder().encode("abcdef").subarray(2, 5));
    expect(memory.length).toBe(3);
    expect(memory.view.byteLength).toBe(3);
    write(pipe.write, memory.at(1), 2);
    expect(readAll(pipe.read).toString()).toBe("de");
  });
});

describe("IoVec", () => {
  test("starts empty", () => {
    const vector = new IoVec(2);
    expect([vector.count, vector.remaining, vector.full]).toEqual([0, 0, false]);
  });

  test("gathers its buffers in order", () => {
    const one = letters("abc");
    const two = letters("XYZ");
    const vector = new IoVec(4);
    vector.push(two.at(1), 2);
    vector.push(one.at(0), 1);
    vector.push(two.at(0), 1);
    expect([vector.count, vector.remaining]).toEqual([3, 4]);
    expect(gathered(vector)).toBe("YZaX");
  });

  test("joins a buffer to the one that it follows in memory", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(1);
    vector.push(memory.at(1), 2);
    vector.push(memory.at(3), 1);
    expect([vector.count, vector.remaining]).toEqual([1, 3]);
    expect(gathered(vector)).toBe("bcd");
  });

  test("does not join a buffer that lies before the last one or past a gap", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(3);
    vector.push(memory.at(2), 2);
    vector.push(memory.at(0), 2);
    vector.push(memory.at(3), 2);
    expect(vector.count).toBe(3);
    expect(gathered(vector)).toBe("cdabde");
  });

  test("is full at its capacity, until it is consumed whole", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(2);
    vector.push(memory.at(0), 1);
    expect(vector.full).toBeFalse();
    vector.push(memory.at(2), 1);
    expect(vector.full).toBeTrue();
    vector.consume(1);
    expect(vector.full).toBeTrue();
    vector.consume(1);
    expect([vector.count, vector.full]).toEqual([0, false]);
    vector.push(memory.at(5), 1);
    expect(gathered(vector)).toBe("f");
  });

  test("joins even when it is full", () => {
    const memory = letters("abc");
    const vector = new IoVec(1);
    vector.push(memory.at(0), 1);
    vector.push(memory.at(1), 2);
    expect([vector.count, vector.remaining]).toEqual([1, 3]);
  });

  test("loses whatever number of bytes from its front", () => {
    const [one, two, three] = [letters("abc"), letters("defgh"), letters("ij")];
    const all = "abcdefghij";
    for (let length = 0; length <= all.length; length++) {
      const vector = new IoVec(3);
      vector.push(one.at(0), 3);
      vector.push(two.at(0), 5);
      vector.push(three.at(0), 2);
      vector.consume(length);
      expect(vector.remaining).toBe(all.length - length);
      expect(gathered(vector)).toBe(all.slice(length));
    }
  });

  test("loses bytes inside one buffer step by step", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(2);
    vector.push(memory.at(0), 6);
    vector.consume(1);
    vector.consume(2);
    expect([vector.count, vector.remaining]).toEqual([1, 3]);
    expect(gathered(vector)).toBe("def");
  });

  test("still joins to a buffer of which a part is consumed", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(1);
    vector.push(memory.at(0), 3);
    vector.consume(2);
    vector.push(memory.at(3), 2);
    expect([vector.count, vector.remaining]).toEqual([1, 3]);
    expect(gathered(vector)).toBe("cde");
  });

  test("does not join to a buffer that is consumed", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(2);
    vector.push(memory.at(0), 3);
    vector.consume(3);
    vector.push(memory.at(3), 2);
    expect([vector.count, vector.remaining]).toEqual([1, 2]);
    expect(gathered(vector)).toBe("de");
  });

  test("forgets everything when cleared", () => {
    const memory = letters("abcdef");
    const vector = new IoVec(1);
    vector.push(memory.at(0), 3);
    vector.clear();
    expect([vector.count, vector.remaining, vector.full]).toEqual([0, 0, false]);
    vector.push(memory.at(3), 1);
    expect(gathered(vector)).toBe("d");
  });

  test("keeps addresses above 2^32 exact across 32-bit borders", () => {
    // Never handed to the kernel: only the words that it would see.
    const vector = new IoVec(2);
    const address = 0x7fff_ffff_fff0;
    vector.push(address, 32);
    vector.push(address + 32, 8);
    expect([vector.count, vector.remaining]).toEqual([1, 40]);
    vector.push(address + 48, 8);
    expect(vector.count).toBe(2);
    vector.consume(16);
    vector.push(address + 56, 1);
    expect([vector.count, vector.remaining]).toEqual([2, 33]);
  });
});
