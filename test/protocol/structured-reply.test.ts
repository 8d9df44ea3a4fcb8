import { describe, expect, test } from "bun:test";
import {
  encodeBlockStatus,
  encodeChunkHeader,
  encodeErrorChunk,
  encodeOffsetData,
  encodeOffsetHole,
  MAX_ERROR_CHUNK_SIZE,
  MAX_ERROR_MESSAGE,
  OFFSET_DATA_SIZE,
  OFFSET_HOLE_SIZE,
} from "../../src/protocol/structured-reply.ts";

const DONE = 1;

/** A cookie with the highest bit set in both halves, and how it looks. */
const HIGH = 0x8000_0001;
const LOW = 0xffff_fffe;
const COOKIE = "80000001fffffffe";

/** A view that does not start where its buffer does. */
function room(size: number): { view: DataView; hex: () => string } {
  const bytes = new Uint8Array(5 + size).fill(0xee);
  return {
    view: new DataView(bytes.buffer, 5),
    hex: () => {
      expect([...bytes.subarray(0, 5)]).toEqual(Array(5).fill(0xee));
      return Buffer.from(bytes.subarray(5)).toString("hex");
    },
  };
}

test("a chunk's header is 20 bytes at its place and touches no others", () => {
  const { view, hex } = room(28);
  encodeChunkHeader(view, 3, DONE, 0x8001, HIGH, LOW, 0xffff_fff0);
  expect(hex()).toBe(
    `eeeeee${"668e33ef"}${"0001"}${"8001"}${COOKIE}${"fffffff0"}${"ee".repeat(5)}`,
  );
});

test("a chunk's header alone is NBD_REPLY_TYPE_NONE", () => {
  const { view, hex } = room(20);
  encodeChunkHeader(view, 0, DONE, 0, 0, 1, 0);
  expect(hex()).toBe(`668e33ef00010000${"0000000000000001"}${"00000000"}`);
});

describe("what precedes data", () => {
  test("is 28 bytes that count the offset as payload", () => {
    const { view, hex } = room(33);
    encodeOffsetData(view, 2, 0, HIGH, LOW, 0x1_0000_0200, 0x1000);
    expect(hex()).toBe(
      `eeee${"668e33ef"}${"0000"}${"0001"}${COOKIE}${"00001008"}${"0000000100000200"}eeeeee`,
    );
    expect(OFFSET_DATA_SIZE).toBe(28);
  });

  test("says whether the reply ends with the data", () => {
    const { view, hex } = room(28);
    encodeOffsetData(view, 0, DONE, 0, 7, 0, 1);
    expect(hex()).toBe(`668e33ef00010001${"0000000000000007"}${"00000009"}${"00".repeat(8)}`);
  });

  test("holds the highest offset and the longest data", () => {
    const { view, hex } = room(28);
    encodeOffsetData(view, 0, 0, HIGH, LOW, 2n ** 64n - 1n, 2 ** 32 - 9);
    expect(hex()).toBe(`668e33ef00000001${COOKIE}${"ffffffff"}${"ff".repeat(8)}`);
  });
});

describe("a hole", () => {
  test("is 32 bytes at its place and touches no others", () => {
    const { view, hex } = room(36);
    encodeOffsetHole(view, 1, DONE, HIGH, LOW, 2n ** 53n, 0xffff_ffff);
    expect(hex()).toBe(
      `ee${"668e33ef"}${"0001"}${"0002"}${COOKIE}${"0000000c"}${"0020000000000000"}${"ffffffff"}eeeeee`,
    );
    expect(OFFSET_HOLE_SIZE).toBe(32);
  });

  test("may be followed by more", () => {
    const { view, hex } = room(32);
    encodeOffsetHole(view, 0, 0, 0, 1, 512, 1024);
    expect(hex()).toBe(
      `668e33ef00000002${"0000000000000001"}${"0000000c"}${"0000000000000200"}${"00000400"}`,
    );
  });
});

describe("an error", () => {
  /** The text in the chunk for `message`; nothing after it is touched. */
  function textOf(message: string): Buffer {
    const { view, hex } = room(3 + MAX_ERROR_CHUNK_SIZE + 4);
    const length = encodeErrorChunk(view, 3, HIGH, LOW, 22, message);
    const bytes = Buffer.from(hex(), "hex").subarray(3);
    expect(bytes.subarray(length).toString("hex")).toBe("ee".repeat(bytes.length - length));
    expect(bytes.readUInt32BE(16)).toBe(length - 20);
    expect(bytes.readUInt16BE(24)).toBe(length - 26);
    return bytes.subarray(26, length);
  }

  test("ends the reply with a number and a text, and touches no other bytes", () => {
    const { view, hex } = room(1 + MAX_ERROR_CHUNK_SIZE);
    expect(encodeErrorChunk(view, 1, HIGH, LOW, 28, "full ä")).toBe(33);
    expect(hex()).toBe(
      `ee${"668e33ef"}${"0001"}${"8001"}${COOKIE}${"0000000d"}${"0000001c"}${"0007"}` +
        Buffer.from("full ä").toString("hex") +
        "ee".repeat(MAX_ERROR_MESSAGE - 7),
    );
  });

  test("may have no text", () => {
    const { view, hex } = room(MAX_ERROR_CHUNK_SIZE);
    expect(encodeErrorChunk(view, 0, 0, 1, 5, "")).toBe(26);
    expect(hex()).toStartWith(
      `668e33ef00018001${"0000000000000001"}${"00000006"}${"00000005"}${"0000"}eeee`,
    );
  });

  test("has a text of at most 256 bytes", () => {
    expect(MAX_ERROR_MESSAGE).toBe(256);
    expect(MAX_ERROR_CHUNK_SIZE).toBe(282);
    expect(textOf("n".repeat(256)).toString()).toBe("n".repeat(256));
    expect(textOf("n".repeat(257)).toString()).toBe("n".repeat(256));
    expect(textOf("n".repeat(100_000)).toString()).toBe("n".repeat(256));
  });

  test.each(["ä", "€", "😀"])("has no text that is cut in the middle of %s", (character) => {
    const width = Buffer.byteLength(character);
    const lengths = new Set<number>();
    // Shifted byte by byte, so that the border falls into the character at every place.
    for (let shift = 0; shift < width; shift++) {
      const text = textOf("n".repeat(shift) + character.repeat(200));
      expect(text.length).toBeGreaterThan(256 - width);
      expect(new TextDecoder("utf-8", { fatal: true }).decode(text)).toEndWith(character);
      lengths.add(text.length);
    }
    expect(lengths.size).toBe(width);
  });

  test("has a text of UTF-8 even for half a character", () => {
    expect(textOf("a\ud83d").toString()).toBe("a\ufffd");
  });
});

describe("a block status", () => {
  test("ends the reply with the context and its extents, and touches no other bytes", () => {
    const { view, hex } = room(2 + 40 + 3);
    const extents = [
      { length: 0xffff_fe00, flags: 3 },
      { length: 512, flags: 0 },
    ];
    expect(encodeBlockStatus(view, 2, HIGH, LOW, 0x8000_0002, extents)).toBe(40);
    expect(hex()).toBe(
      `eeee${"668e33ef"}${"0001"}${"0005"}${COOKIE}${"00000014"}${"80000002"}` +
        `${"fffffe00"}${"00000003"}${"00000200"}${"00000000"}eeeeee`,
    );
  });

  test("of one extent has 12 bytes of payload", () => {
    const { view, hex } = room(32);
    expect(encodeBlockStatus(view, 0, 0, 7, 1, [{ length: 4096, flags: 2 }])).toBe(32);
    expect(hex()).toBe(
      `668e33ef00010005${"0000000000000007"}${"0000000c"}${"00000001"}${"00001000"}${"00000002"}`,
    );
  });
});
