import { expect, test } from "bun:test";
import { renewed } from "../../src/reference/markdown.ts";
import type { Outline, Prose } from "../../src/reference/outline.ts";

const OUTLINE: Outline = {
  name: "program",
  version: "1.0.0",
  description: "Do it",
  commands: [
    {
      name: "first",
      description: "Begin",
      synopses: ["program first", "program first FILE"],
      options: [option("--both", "-b"), option("--alone", undefined)],
      takes: { parameters: true, files: false, command: false, words: [] },
      example: undefined,
    },
    {
      name: "second",
      description: "Go on",
      synopses: ["program second"],
      options: [option("--both", "-b")],
      takes: { parameters: true, files: false, command: false, words: [] },
      example: undefined,
    },
  ],
  options: [option("--help", "-h")],
  parameters: [["pipe=PATH", "write to a pipe"]],
  keys: [],
};

const PROSE: Prose = {
  description: [],
  details: { "pipe=PATH": "It has a reader.", "--alone": "It is alone." },
  variables: [["$uri", `Words, ${"and more words, ".repeat(10)}and \`three words together\`.`]],
  statuses: [["0", "All is well."]],
  signals: [],
  environment: [],
  seeAlso: [],
};

function option(long: string, short: string | undefined) {
  const value = { hint: "N", optional: long === "--both", words: [], starts: [], paths: undefined };
  return { long, short, description: `set ${long.slice(2)}`, value, repeatable: false };
}

/** A page that has one list. */
const page = (name: string, list: string) =>
  `# Before\n\n<!-- reference: ${name} -->\n${list}\n<!-- end -->\n\nbehind\n`;

const listOf = (name: string) => renewed(page(name, "old"), OUTLINE, PROSE);

test("a list is renewed, and what is around it stays", () => {
  expect(listOf("statuses")).toBe(page("statuses", "\n- `0`: All is well.\n"));
  expect(renewed(listOf("statuses"), OUTLINE, PROSE)).toBe(listOf("statuses"));
});

test("each of several lists is renewed", () => {
  const both = page("statuses", "old") + page("parameters", "old");
  expect(renewed(both, OUTLINE, PROSE)).toBe(listOf("statuses") + listOf("parameters"));
});

test("a parameter has its description and what is to be said beyond it", () => {
  expect(listOf("parameters")).toContain("- `pipe=PATH`: Write to a pipe. It has a reader.\n");
});

test("options stand below the commands that have them", () => {
  expect(listOf("options")).toBe(
    page(
      "options",
      [
        "",
        "### `first` and `second`",
        "",
        "- `-b, --both[=N]`: Set both.",
        "",
        "### `first` only",
        "",
        "- `--alone=N`: Set alone. It is alone.",
        "",
        "### All commands",
        "",
        "- `-h, --help=N`: Set help.",
        "",
      ].join("\n"),
    ),
  );
});

test("the synopsis has every way to write every command", () => {
  expect(listOf("synopsis")).toContain(
    "```\nprogram first\nprogram first FILE\nprogram second\n```\n",
  );
});

test("long lines are divided between words, but not within what is typed", () => {
  const lines = listOf("variables").split("\n");
  expect(lines.length).toBeGreaterThan(9);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(100);
  expect(listOf("variables")).toContain("`three words together`");
});

test("a list that is not known is an error", () => {
  expect(() => listOf("nonsense")).toThrow("there is no list nonsense");
});
