import { expect, test } from "bun:test";
import { encodeRequest, Request } from "../../src/protocol/request.ts";

function view(hex: string): DataView {
  const bytes = Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
  return new DataView(bytes.buffer);
}

test("a request header decodes into its fields", () => {
  const request = new Request();
  expect(
    request.decode(view("25609513 0003 0006 1122334455667788 0000000100000200 fffffe00"), 0),
  ).toBeTrue();
  expect({ ...request }).toEqual({
    flags: 3,
    type: 6,
    cookieHigh: 0x1122_3344,
    cookieLow: 0x5566_7788,
    offset: 0x1_0000_0200,
    length: 0xffff_fe00,
  });
});

test("a request at the highest values stays exact", () => {
  const request = new Request();
  request.decode(view("25609513 ffff ffff ffffffffffffffff ffffffffffffffff ffffffff"), 0);
  expect({ ...request }).toEqual({
    flags: 0xffff,
    type: 0xffff,
    cookieHigh: 0xffff_ffff,
    cookieLow: 0xffff_ffff,
    offset: 2n ** 64n - 1n,
    length: 0xffff_ffff,
  });
});

test("a request decodes in the middle of other bytes", () => {
  const request = new Request();
  const header = "25609513 0000 0001 0000000000000007 0000000000000400 00000200";
  expect(request.decode(view(`ffffff ${header} ffff`), 3)).toBeTrue();
  expect(request).toMatchObject({ type: 1, cookieLow: 7, offset: 1024, length: 512 });
});

test("a request object forgets the request before", () => {
  const request = new Request();
  request.decode(view("25609513 ffff ffff ffffffffffffffff ffffffffffffffff ffffffff"), 0);
  request.decode(view("25609513 0000 0000 0000000000000000 0000000000000000 00000000"), 0);
  expect({ ...request }).toEqual({ ...new Request() });
});

test("what does not start with the request magic is refused and leaves the object alone", () => {
  const request = new Request();
  for (const magic of ["25609512", "13956025", "67446698", "00000000"]) {
    expect(request.decode(view(`${magic} 0001 0001 ${"01".repeat(20)}`), 0)).toBeFalse();
  }
  expect({ ...request }).toEqual({ ...new Request() });
});

test("a request header that is encoded decodes into the same", () => {
  for (const offset of [0, 512, 2 ** 53 - 1, 2n ** 63n]) {
    const bytes = encodeRequest(6, offset, 0xffff_fe00, 7);
    expect(bytes).toHaveLength(28);
    const request = new Request();
    expect(request.decode(new DataView(bytes.buffer), 0)).toBeTrue();
    const fields = { flags: 0, type: 6, cookieHigh: 0, cookieLow: 7, offset, length: 0xffff_fe00 };
    expect({ ...request }).toEqual(fields);
  }
});
