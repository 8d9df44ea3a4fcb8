import { describe, expect, test } from "bun:test";
import { quoted, runLine } from "../../src/check/command-line.ts";
import { command } from "../support/program.ts";

test.each([
  "",
  "a b",
  "it's",
  "$nbd",
  "`x`",
  "a\nb",
  '"',
  "\\",
  "*",
  "~",
  "ä",
  "-n",
  "k=v",
  "!",
  "#",
])("the shell takes %p as it is once it is quoted", async (word) => {
  expect(await command(["sh", "-c", `printf %s ${quoted(word)}`])).toBe(word);
});

describe("the line to use", () => {
  const command = ["qemu-img", "convert", "my disk", "$nbd"];

  test("has no parameter that is not needed", () => {
    expect(runLine({ sink: "disk.fifo", size: undefined, window: 0, command })).toBe(
      "nbd-streaming run pipe=disk.fifo -- qemu-img convert 'my disk' '$nbd'",
    );
  });

  test("has size= to the byte, and window=", () => {
    const sink = "exec:zstd -c";
    expect(runLine({ sink, size: 1025n, window: 2 ** 26, command: ["a b"] })).toBe(
      "nbd-streaming run 'pipe=exec:zstd -c' size=1025 window=64M -- 'a b'",
    );
  });
});
