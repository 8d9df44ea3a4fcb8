/** What qemu-img says of an image that it cannot open, and the remedy that is chosen by it. */
import { describe, expect, test } from "bun:test";
import { type Cause, causeOf, remedyForCause } from "../../src/captive/complaint.ts";
import { COMPLAINTS } from "./complaints.ts";
import { told } from "../support/told.ts";

/** A cause in words, with the name in it. */
function shown(cause: Cause): string {
  return "name" in cause ? `${cause.kind} ${cause.name}` : cause.kind;
}

describe.each(COMPLAINTS)("qemu-img $releases about $image", ({ cause, image, text }) => {
  test(`means: ${cause}`, () => {
    expect(shown(causeOf(text, image))).toBe(cause);
  });
});

/** Names that have the words of every cause in them. */
const TREACHEROUS = [
  "block",
  'Failed to get "write" lock',
  'x\': Failed to get "write" lock',
  "Unknown protocol 'http'",
  "No such file or directory",
  "a\nqemu: module block-block-curl not found, do you want",
];

describe.each(TREACHEROUS)("in a file's name, %j", (image) => {
  test.each([
    ["Permission denied", "forbidden"],
    ["No such file or directory", "missing"],
    ["Input/output error", "unknown"],
  ])("does not stand for the cause: %s", (reason, cause) => {
    const text = `qemu-img: Could not open '${image}': Could not open '${image}': ${reason}\n`;
    expect(causeOf(text, image).kind).toBe(cause as Cause["kind"]);
  });
});

test("what is no complaint about the image has no cause", () => {
  expect(causeOf("", "disk.qcow2").kind).toBe("unknown");
  expect(causeOf('qemu-img: Failed to get "write" lock\n', "disk.qcow2").kind).toBe("unknown");
});

describe("the remedy", () => {
  const remedy = (text: string, image: string, format?: string) =>
    told(remedyForCause(causeOf(text, image), { image, format }));
  const said = (reason: string, image: string) =>
    `qemu-img: Could not open '${image}': ${reason}\n`;

  test("for an image in use is to end the program that uses it, or to ask a machine for its disk", () => {
    const locked = `Failed to get shared "write" lock\nIs another process using the image [d]?`;
    expect(remedy(said(locked, "d"), "d")).toBe(
      "end the program that uses it first, or see docs/live-vm.md if that is a running machine",
    );
  });

  test("for a driver that is missing is to install it, whatever the release says", () => {
    for (const { cause, image, text } of COMPLAINTS) {
      if (!cause.startsWith("module ")) continue;
      expect(remedy(text, image)).toMatch(
        /^install qemu's driver for it, the package .*qemu-block-/,
      );
    }
  });

  test("for a file with a colon in its name is to write it as a path", () => {
    expect(remedy(said("Unknown protocol '10'", "10:00.img"), "10:00.img")).toBe(
      "if it is a file, write ./10:00.img",
    );
  });

  test("for another format than the one that was named doubts that", () => {
    const other = said("Image is not in qcow2 format", "d");
    expect(remedy(other, "d", "qcow2")).toBe("is -f qcow2 right?");
  });

  test("for what has no known cause is none", () => {
    expect(remedy(said("Input/output error", "d"), "d")).toBeUndefined();
  });
});
