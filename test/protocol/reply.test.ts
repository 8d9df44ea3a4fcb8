import { describe, expect, test } from "bun:test";
import {
  encodeBlockStatus,
  encodeChunkHeader,
  encodeErrorChunk,
  encodeOffsetData,
  encodeOffsetHole,
  encodeSimpleReply,
  MAX_ERROR_CHUNK_SIZE,
  MAX_ERROR_MESSAGE,
  type RequestKey,
} from "../../src/protocol/reply.ts";

test("a simple reply is 16 bytes at its place and touches no others", () => {
  const bytes = new Uint8Array(24).fill(0xee);
  encodeSimpleReply(new DataView(bytes.buffer), 3, 28, 0x8000_0001, 0xffff_fffe);
  expect(Buffer.from(bytes).toString("hex")).toBe(
    `eeeeee${"67446698"}${"0000001c"}${"80000001fffffffe"}${"ee".repeat(5)}`,
  );
});

test("a simple reply without an error says 0", () => {
  const bytes = new Uint8Array(16).fill(0xee);
  encodeSimpleReply(new DataView(bytes.buffer), 0, 0, 0, 1);
  expect(Buffer.from(bytes).toString("hex")).toBe("67446698000000000000000000000001");
});

const DONE = 1;

/** A cookie with the highest bit set in both halves, and an offset that no number is exact for. */
const KEY: RequestKey = {
  cookieHigh: 0x8000_0001,
  cookieLow: 0xffff_fffe,
  offset: 2n ** 63n + 1n,
};
const COOKIE = "80000001fffffffe";
const OFFSET = "8000000000000001";

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

function u32(value: number): string {
  return value.toString(16).padStart(8, "0");
}

const FORMS = [
  { form: "structured", extended: false, size: 20 },
  { form: "extended", extended: true, size: 32 },
];

describe.each(FORMS)("of $form replies", ({ extended, size }) => {
  /** A header with this key, whose flags and type are in hex. */
  function header(flags: string, type: string, length: number): string {
    return extended
      ? `6e8a278c${flags}${type}${COOKIE}${OFFSET}${"00000000"}${u32(length)}`
      : `668e33ef${flags}${type}${COOKIE}${u32(length)}`;
  }

  test(`a chunk's header is ${size} bytes at its place and touches no others`, () => {
    const { view, hex } = room(size + 8);
    expect(encodeChunkHeader(view, 3, extended, DONE, 0x8001, KEY, 0xffff_fff0)).toBe(size);
    expect(hex()).toBe(`eeeeee${header("0001", "8001", 0xffff_fff0)}${"ee".repeat(5)}`);
  });

  test("a chunk's header alone is NBD_REPLY_TYPE_NONE", () => {
    const { view, hex } = room(size);
    encodeChunkHeader(view, 0, extended, DONE, 0, KEY, 0);
    expect(hex()).toBe(header("0001", "0000", 0));
  });

  describe("what precedes data", () => {
    test("is a header and 8 bytes that count the offset as payload", () => {
      const { view, hex } = room(size + 13);
      const written = encodeOffsetData(view, 2, extended, 0, KEY, 0x1_0000_0200, 0x1000);
      expect(written).toBe(size + 8);
      expect(hex()).toBe(`eeee${header("0000", "0001", 0x1008)}${"0000000100000200"}eeeeee`);
    });

    test("says whether the reply ends with the data", () => {
      const { view, hex } = room(size + 8);
      encodeOffsetData(view, 0, extended, DONE, KEY, 0, 1);
      expect(hex()).toBe(`${header("0001", "0001", 9)}${"00".repeat(8)}`);
    });

    test("holds the highest offset and the longest data", () => {
      const { view, hex } = room(size + 8);
      encodeOffsetData(view, 0, extended, 0, KEY, 2n ** 64n - 1n, 2 ** 32 - 9);
      expect(hex()).toBe(`${header("0000", "0001", 0xffff_ffff)}${"ff".repeat(8)}`);
    });
  });

  describe("a hole", () => {
    test("is a header and 12 bytes at its place and touches no others", () => {
      const { view, hex } = room(size + 16);
      const written = encodeOffsetHole(view, 1, extended, DONE, KEY, 2n ** 53n, 0xffff_ffff);
      expect(written).toBe(size + 12);
      expect(hex()).toBe(`ee${header("0001", "0002", 12)}${"0020000000000000"}${"ffffffff"}eeeeee`);
    });

    test("may be followed by more", () => {
      const { view, hex } = room(size + 12);
      encodeOffsetHole(view, 0, extended, 0, KEY, 512, 1024);
      expect(hex()).toBe(`${header("0000", "0002", 12)}${"0000000000000200"}${"00000400"}`);
    });
  });

  describe("an error", () => {
    /** The text in the chunk for `message`; nothing after it is touched. */
    function textOf(message: string): Buffer {
      const { view, hex } = room(3 + MAX_ERROR_CHUNK_SIZE + 4);
      const length = encodeErrorChunk(view, 3, extended, KEY, 22, message);
      const bytes = Buffer.from(hex(), "hex").subarray(3);
      expect(bytes.subarray(length).toString("hex")).toBe("ee".repeat(bytes.length - length));
      expect(bytes.readUInt32BE(size - 4)).toBe(length - size);
      expect(bytes.readUInt16BE(size + 4)).toBe(length - size - 6);
      return bytes.subarray(size + 6, length);
    }

    test("ends the reply with a number and a text, and touches no other bytes", () => {
      const { view, hex } = room(1 + size + 6 + MAX_ERROR_MESSAGE);
      expect(encodeErrorChunk(view, 1, extended, KEY, 28, "full ä")).toBe(size + 13);
      expect(hex()).toBe(
        `ee${header("0001", "8001", 13)}${"0000001c"}${"0007"}` +
          Buffer.from("full ä").toString("hex") +
          "ee".repeat(MAX_ERROR_MESSAGE - 7),
      );
    });

    test("may have no text", () => {
      const { view, hex } = room(MAX_ERROR_CHUNK_SIZE);
      expect(encodeErrorChunk(view, 0, extended, KEY, 5, "")).toBe(size + 6);
      expect(hex()).toStartWith(`${header("0001", "8001", 6)}${"00000005"}${"0000"}eeee`);
    });

    test("has a text of at most 256 bytes", () => {
      expect(MAX_ERROR_MESSAGE).toBe(256);
      expect(MAX_ERROR_CHUNK_SIZE).toBe(294);
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
});

describe("a block status", () => {
  test("ends the reply with the context and its extents, and touches no other bytes", () => {
    const { view, hex } = room(2 + 40 + 3);
    const extents = [
      { length: 0xffff_fe00, flags: 3 },
      { length: 512, flags: 0 },
    ];
    expect(encodeBlockStatus(view, 2, false, KEY, 0x8000_0002, extents)).toBe(40);
    expect(hex()).toBe(
      `eeee${"668e33ef"}${"0001"}${"0005"}${COOKIE}${"00000014"}${"80000002"}` +
        `${"fffffe00"}${"00000003"}${"00000200"}${"00000000"}eeeeee`,
    );
  });

  test("of one extent has 12 bytes of payload", () => {
    const { view, hex } = room(32);
    expect(encodeBlockStatus(view, 0, false, KEY, 1, [{ length: 4096, flags: 2 }])).toBe(32);
    expect(hex()).toBe(
      `668e33ef00010005${COOKIE}${"0000000c"}${"00000001"}${"00001000"}${"00000002"}`,
    );
  });

  test("has lengths and states of 64 bits with extended headers, and their number", () => {
    const { view, hex } = room(1 + 32 + 8 + 48 + 2);
    const extents = [
      { length: 2n ** 64n - 1n, flags: 3 },
      { length: 2 ** 32, flags: 0x8000_0000 },
      { length: 1, flags: 0 },
    ];
    expect(encodeBlockStatus(view, 1, true, KEY, 0x8000_0002, extents)).toBe(32 + 8 + 48);
    expect(hex()).toBe(
      `ee${"6e8a278c"}${"0001"}${"0006"}${COOKIE}${OFFSET}${"0000000000000038"}` +
        `${"80000002"}${"00000003"}` +
        `${"ffffffffffffffff"}${"0000000000000003"}` +
        `${"0000000100000000"}${"0000000080000000"}` +
        `${"0000000000000001"}${"0000000000000000"}eeee`,
    );
  });
});
