import { describe, expect, test } from "bun:test";
import { decodeInfoRequest, decodeName } from "../../src/handshake/info-request.ts";
import { infoRequest } from "./conversation.ts";

describe("decodeName", () => {
  test("gives the text of UTF-8", () => {
    expect(decodeName(Buffer.from("größe 😀"))).toBe("größe 😀");
    expect(decodeName(new Uint8Array(0))).toBe("");
  });

  test("takes 4096 bytes and no more", () => {
    expect(decodeName(Buffer.alloc(4096, 0x6e))).toBe("n".repeat(4096));
    expect(decodeName(Buffer.alloc(4097, 0x6e))).toBeUndefined();
  });

  test.each(["00", "6100", "ff", "c3", "c0af", "eda080", "f5808080"])("refuses %s", (bytes) => {
    expect(decodeName(Buffer.from(bytes, "hex"))).toBeUndefined();
  });
});

describe("decodeInfoRequest", () => {
  test("gives the name and what is asked for", () => {
    expect(decodeInfoRequest(infoRequest("disk", [3, 1, 3, 0xffff]))).toEqual({
      name: "disk",
      infos: new Set([3, 1, 0xffff]),
    });
  });

  test("reads data that is a part of a larger array", () => {
    const data = Buffer.concat([Buffer.alloc(5, 0xff), infoRequest("a", [2]), Buffer.alloc(3, 1)]);
    expect(decodeInfoRequest(data.subarray(5, data.length - 3))).toEqual({
      name: "a",
      infos: new Set([2]),
    });
  });

  test("refuses every truncation and every extension of a good request", () => {
    const good = infoRequest("disk", [1, 3]);
    for (let length = 0; length < good.length; length++) {
      expect(decodeInfoRequest(good.subarray(0, length))).toBeUndefined();
    }
    for (const extra of [1, 2, 3]) {
      expect(decodeInfoRequest(Buffer.concat([good, Buffer.alloc(extra)]))).toBeUndefined();
    }
  });
});
