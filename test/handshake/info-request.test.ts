import { describe, expect, test } from "bun:test";
import { decodeInfoRequest } from "../../src/handshake/option-data.ts";
import { infoRequest } from "./conversation.ts";

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
