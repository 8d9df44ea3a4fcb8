import { describe, expect, test } from "bun:test";
import { decodeString, OptionData } from "../../src/handshake/option-data.ts";

/** Option data, given in hex, that is a part of a larger array. */
function optionData(hex: string): OptionData {
  const bytes = Buffer.from(`ffffff${hex}01ffffff`, "hex");
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
