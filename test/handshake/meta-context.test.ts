import { expect, test } from "bun:test";
import { decodeMetaContextRequest } from "../../src/handshake/option-data.ts";
import { hex, metaContextRequest, u32 } from "./conversation.ts";

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
