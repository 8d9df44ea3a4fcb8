import { describe, expect, test } from "bun:test";
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeString,
  OptionData,
} from "../../src/handshake/option-data.ts";
import { hex, infoRequest, metaContextRequest, u32 } from "./conversation.ts";

/** Option data, given in hex, that is a part of a larger array. */
function optionData(digits: string): OptionData {
  const bytes = Buffer.from(`ffffff${digits}01ffffff`, "hex");
  return new OptionData(bytes.subarray(3, bytes.length - 4));
}

describe("decodeString", () => {
  test("gives the text of UTF-8", () => {
    expect(decodeString(Buffer.from("größe 😀"))).toBe("größe 😀");
    expect(decodeString(new Uint8Array(0))).toBe("");
  });

  test("takes 4096 bytes and no more", () => {
    expect(decodeString(Buffer.alloc(4096, 0x6e))).toBe("n".repeat(4096));
    expect(decodeString(Buffer.alloc(4097, 0x6e))).toBeUndefined();
  });

  test.each(["00", "6100", "ff", "c3", "c0af", "eda080", "f5808080"])("refuses %s", (bytes) => {
    expect(decodeString(Buffer.from(bytes, "hex"))).toBeUndefined();
  });
});

describe("OptionData", () => {
  test("takes data apart in order", () => {
    const data = optionData("fffe000000046469736b8000000100000000");
    expect(data.left).toBe(18);
    expect(data.uint16()).toBe(0xfffe);
    expect(data.string()).toBe("disk");
    expect(data.left).toBe(8);
    expect(data.uint32()).toBe(0x8000_0001);
    expect(data.string()).toBe("");
    expect(data.left).toBe(0);
  });

  test("gives nothing beyond the end of the data", () => {
    expect(optionData("").uint16()).toBeUndefined();
    expect(optionData("00").uint16()).toBeUndefined();
    expect(optionData("000000").uint32()).toBeUndefined();
    expect(optionData("000000").string()).toBeUndefined();
  });

  test("leaves what it could not take", () => {
    const data = optionData("0102");
    expect(data.uint32()).toBeUndefined();
    expect(data.uint16()).toBe(0x0102);
  });

  test.each(["00000005", "00000006", "7fffffff", "80000000", "fffffffc", "ffffffff"])(
    "gives no string of 0x%s bytes out of four",
    (length) => {
      expect(optionData(`${length}6469736b`).string()).toBeUndefined();
    },
  );

  test("gives no string that is none", () => {
    expect(optionData("00000002c328").string()).toBeUndefined();
    expect(optionData("000000026100").string()).toBeUndefined();
    expect(optionData(`00001001${"6e".repeat(4097)}`).string()).toBeUndefined();
    expect(optionData(`00001000${"6e".repeat(4096)}`).string()).toBe("n".repeat(4096));
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

describe("decodeMetaContextRequest", () => {
  test("a request decodes into a name and queries", () => {
    const data = metaContextRequest("disk", ["base:allocation", "qemu:dirty-bitmap:ä", ""]);
    expect(decodeMetaContextRequest(data)).toEqual({
      name: "disk",
      queries: new Set(["base:allocation", "qemu:dirty-bitmap:ä", ""]),
    });
  });

  test("no queries are not the same as an empty one", () => {
    const decoded = [[], [""]].map((queries) =>
      decodeMetaContextRequest(metaContextRequest("", queries)),
    );
    expect(decoded).toEqual([
      { name: "", queries: new Set() },
      { name: "", queries: new Set([""]) },
    ]);
  });

  test("a query that comes twice is one", () => {
    const data = metaContextRequest("", ["base:", "base:allocation", "base:"]);
    expect(decodeMetaContextRequest(data)?.queries.size).toBe(2);
  });

  test("a request decodes as a part of a larger array", () => {
    const request = metaContextRequest("a", ["b:c"]);
    const data = Buffer.concat([Buffer.alloc(5, 0xff), request, Buffer.alloc(3, 1)]);
    expect(decodeMetaContextRequest(data.subarray(5, data.length - 3))).toEqual({
      name: "a",
      queries: new Set(["b:c"]),
    });
  });

  test("every truncation and every extension of a good request is refused", () => {
    const good = metaContextRequest("disk", ["base:allocation", "", "x-a:b"]);
    for (let length = 0; length < good.length; length++) {
      expect(decodeMetaContextRequest(good.subarray(0, length))).toBeUndefined();
    }
    for (const extra of [1, 2, 4, 8]) {
      expect(decodeMetaContextRequest(Buffer.concat([good, Buffer.alloc(extra)]))).toBeUndefined();
    }
  });

  test("as many queries as fit are taken, and one more is refused", () => {
    const empty = "00000000";
    const request = (count: number, queries: number) =>
      Buffer.from(empty + u32(count) + empty.repeat(queries), "hex");
    expect(decodeMetaContextRequest(request(4000, 4000))?.queries).toEqual(new Set([""]));
    expect(decodeMetaContextRequest(request(4001, 4000))).toBeUndefined();
    expect(decodeMetaContextRequest(request(3999, 4000))).toBeUndefined();
  });

  test.each([1, 2 ** 30, 2 ** 31, 2 ** 32 - 1])("a count of %d without queries is refused", (n) => {
    expect(decodeMetaContextRequest(Buffer.from(`00000000${u32(n)}`, "hex"))).toBeUndefined();
    expect(decodeMetaContextRequest(Buffer.from(`00000000${u32(n)}000000`, "hex"))).toBeUndefined();
  });

  test.each([4, 2 ** 31, 2 ** 32 - 4, 2 ** 32 - 1])(
    "a query of %d bytes that are not there is refused",
    (n) => {
      const data = Buffer.from(`00000000${u32(1)}${u32(n)}${hex("a:b")}`, "hex");
      expect(decodeMetaContextRequest(data)).toBeUndefined();
    },
  );
});
