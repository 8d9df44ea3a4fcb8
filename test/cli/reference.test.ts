/** docs/command-line.md, README, `--help` and the man page tell of the same things. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { referencePages } from "../../packaging/reference.ts";
import { PARAMETERS } from "../../src/cli/parameters.ts";
import { PROSE, STATUSES, VARIABLES } from "../../src/cli/prose.ts";
import { ROOT, runProgram } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const README = readFileSync(join(ROOT, "README.md"), "utf8");
const COMMAND_LINE = readFileSync(join(ROOT, "docs/command-line.md"), "utf8");
const PAGE = readFileSync(join(ROOT, "man/nbd-streaming.1"), "utf8");

/** The entries of all lists of terms, without their lines' ends. */
const ENTRIES = COMMAND_LINE.split(/\n(?=- `)|\n\n/)
  .map((entry) => /^- `([^`]+)`: ([^]+)$/.exec(entry.trim()))
  .filter((match) => match !== null)
  .map(([, term = "", text = ""]) => ({ term, text: text.replaceAll(/\s+/g, " ") }));

async function helpOf(...words: string[]): Promise<string> {
  return (await runProgram([...words, "--help"])).stdout;
}

describe.each(["serve", "run"])("the options of %s", (name) => {
  test("are those that docs/command-line.md and the man page have", async () => {
    const help = await helpOf(name);
    const documented = ENTRIES.flatMap(({ term }) => term.match(/--[a-z-]+/g) ?? []);
    const options = [...help.matchAll(/^ +((?:-\w, )?--[a-z-]+)(?:=<.*>)?(?: |$)/gm)];
    expect(options.length).toBeGreaterThan(15);
    for (const [, option = ""] of options) {
      const long = option.replace(/^.*--/, "--");
      expect(documented).toContain(long);
      expect(PAGE).toContain(`\\fB${long.replaceAll("-", "\\-")}\\fR`);
    }
  });
});

test("the parameters are those of docs/command-line.md", () => {
  for (const [form] of PARAMETERS) expect(ENTRIES.map(({ term }) => term)).toContain(form);
});

test("the variables of a captive command are those of docs/command-line.md", () => {
  for (const [term, text] of VARIABLES) expect(ENTRIES).toContainEqual({ term, text });
});

test("what the reference pages say beyond --help is about forms and options that there are", () => {
  const known = ENTRIES.flatMap(({ term }) => [term, ...(term.match(/--[a-z-]+/g) ?? [])]);
  for (const term of Object.keys(PROSE.details)) expect(known).toContain(term);
});

test("the exit statuses are those of docs/command-line.md, of --help and, in short, of README", async () => {
  const help = (await helpOf()).replaceAll(/\s+/g, " ");
  for (const [status, meaning] of STATUSES) {
    expect(ENTRIES).toContainEqual({ term: status, text: meaning });
    expect(help).toContain(meaning);
  }
  const shown = [...README.matchAll(/^\| ([\d,]+|128\+N|other) +\|/gm)].map(([, status]) => status);
  expect(shown).toEqual(STATUSES.map(([status]) => status));
});

test("the man page in the checkout is the one that the program prints", async () => {
  const { status, stdout, stderr } = await runProgram(["man"]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toBe(PAGE);
});

test.each(["man/nbd-streaming.1", "docs/command-line.md"])(
  "%s is up to date: bun run reference",
  (name) => expect(referencePages()[name]).toBe(readFileSync(join(ROOT, name), "utf8")),
);
