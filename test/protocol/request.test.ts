import { describe, expect, test } from "bun:test";
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
    payload: 0,
    extended: false,
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
    payload: 0,
    extended: false,
  });
});

test("a request decodes in the middle of other bytes", () => {
  const request = new Request();
  const header = "25609513 0000 0001 0000000000000007 0000000000000400 00000200";
  expect(request.decode(view(`ffffff ${header} ffff`), 3)).toBeTrue();
  const fields = { type: 1, cookieLow: 7, offset: 1024, length: 512, payload: 512 };
  expect(request).toMatchObject(fields);
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
    expect({ ...request }).toEqual({ ...fields, payload: 0, extended: false });
  }
});

test("only a WRITE has a payload behind a compact header, whatever its flags say", () => {
  const request = new Request();
  for (const [type, payload] of [
    [0, 0],
    [1, 0xffff_fe00],
    [6, 0],
    [7, 0],
    [99, 0],
  ] as const) {
    const code = type.toString(16).padStart(4, "0");
    const header = `25609513 0020 ${code} 0000000000000007 0000000000000000 fffffe00`;
    expect(request.decode(view(header), 0)).toBeTrue();
    expect(request).toMatchObject({ type, flags: 32, length: 0xffff_fe00, payload });
  }
});

describe("an extended request header", () => {
  /** Decodes a header of these fields, in hex. */
  function decode(flags: string, type: string, length: string) {
    const request = new Request(true);
    const header = `21e41c71 ${flags} ${type} 1122334455667788 0000000100000200 ${length}`;
    const good = request.decode(view(`ffff ${header} ff`), 2);
    return { good, request };
  }

  test("decodes into its fields, with a length of 64 bits", () => {
    const { good, request } = decode("0003", "0006", "0000000100000001");
    expect(good).toBeTrue();
    expect(request.headerSize).toBe(32);
    expect({ ...request }).toEqual({
      flags: 3,
      type: 6,
      cookieHigh: 0x1122_3344,
      cookieLow: 0x5566_7788,
      offset: 0x1_0000_0200,
      length: 0x1_0000_0001,
      payload: 0,
      extended: true,
    });
  });

  test.each([
    ["0000000000000000", 0],
    ["00000000ffffffff", 0xffff_ffff],
    ["001fffffffffffff", 2 ** 53 - 1],
    ["0020000000000000", 2n ** 53n],
    ["0020000000000001", 2n ** 53n + 1n],
    ["7fffffffc0000000", 2n ** 63n - 2n ** 30n],
    ["ffffffffffffffff", 2n ** 64n - 1n],
  ])("keeps the length %s exact", (hex, length) => {
    expect(decode("0000", "0007", hex).request).toMatchObject({ length, payload: 0 });
  });

  test("has the payload of a WRITE as its length, and a flag that says so and is no other", () => {
    const { good, request } = decode("0021", "0001", "0000000000001000");
    expect(good).toBeTrue();
    expect(request).toMatchObject({ flags: 1, length: 4096, payload: 4096 });
  });

  test("may have a payload and the flag with any other command", () => {
    for (const type of ["0000", "0003", "0006", "0007", "0063"]) {
      const { good, request } = decode("0020", type, "000000000000000c");
      expect(good).toBeTrue();
      expect(request).toMatchObject({ flags: 32, length: 12, payload: 12 });
    }
  });

  test("has the payload of a WRITE behind it even without the flag, as qemu sends it", () => {
    const { good, request } = decode("0001", "0001", "0000000000001000");
    expect(good).toBeTrue();
    expect(request).toMatchObject({ flags: 1, length: 4096, payload: 4096 });
    expect(decode("0000", "0001", "0000000000000000").request.payload).toBe(0);
    expect(decode("0000", "0001", "0000000002000001").good).toBeFalse();
    expect(decode("0000", "0001", "ffffffffffffffff").good).toBeFalse();
  });

  test.each(["0001", "0000", "0007", "0063"])(
    "of command %s is not to be trusted with a payload of more than 32 MiB",
    (type) => {
      expect(decode("0020", type, "0000000002000000").good).toBeTrue();
      for (const length of ["0000000002000001", "0000000100000000", "ffffffffffffffff"]) {
        expect(decode("0020", type, length).good).toBeFalse();
      }
    },
  );

  test("is neither taken for a compact one nor the reverse", () => {
    const compact = view(`25609513 0000 0003 ${"00".repeat(28)}`);
    const extended = view(`21e41c71 0000 0003 ${"00".repeat(28)}`);
    expect(new Request(true).decode(compact, 0)).toBeFalse();
    expect(new Request(false).decode(extended, 0)).toBeFalse();
    expect(new Request(true).decode(extended, 0)).toBeTrue();
    expect(new Request(false).decode(compact, 0)).toBeTrue();
  });

  test("leaves nothing of the one before", () => {
    const request = new Request(true);
    const all = `21e41c71 00ff ffff ${"ff".repeat(16)} 0000000002000000`;
    expect(request.decode(view(all), 0)).toBeTrue();
    expect(request.decode(view(`21e41c71 ${"00".repeat(28)}`), 0)).toBeTrue();
    expect({ ...request }).toEqual({ ...new Request(true) });
  });
});
