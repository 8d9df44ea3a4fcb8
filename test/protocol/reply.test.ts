import { expect, test } from "bun:test";
import { encodeSimpleReply } from "../../src/protocol/reply.ts";

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
