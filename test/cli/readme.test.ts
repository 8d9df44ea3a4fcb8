/** README, `--help` and the man page tell of the same things. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { STATUSES } from "../../src/cli/prose.ts";
import { PARAMETERS } from "../../src/cli/parameters.ts";
import { ROOT, runProgram } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const README = readFileSync(join(ROOT, "README.md"), "utf8");
const PAGE = readFileSync(join(ROOT, "man/nbd-streaming.1"), "utf8");

/** The cells of all rows of all tables. */
const ROWS = README.split("\n")
  .filter((line) => line.startsWith("| "))
  .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
  .map(([, first = "", second = ""]) => ({ first, second }));

async function helpOf(...words: string[]): Promise<string> {
  return (await runProgram([...words, "--help"])).stdout;
}

describe.each(["serve", "run"])("the options of %s", (name) => {
  test("are those that README and the man page have", async () => {
    const help = await helpOf(name);
    const documented = ROWS.flatMap(({ first }) => first.match(/--[a-z-]+/g) ?? []);
    const options = [...help.matchAll(/^ +((?:-\w, )?--[a-z-]+)(?:=<.*>)?(?: |$)/gm)];
    expect(options.length).toBeGreaterThan(15);
    for (const [, option = ""] of options) {
      const long = option.replace(/^.*--/, "--");
      expect(documented).toContain(long);
      expect(PAGE).toContain(`\\fB${long.replaceAll("-", "\\-")}\\fR`);
    }
  });
});

test("the parameters are those of README", () => {
  for (const [form] of PARAMETERS) {
    const key = form.replace(/[A-Z].*$/, "");
    expect(ROWS.some(({ first }) => first.startsWith(`\`${key}`))).toBe(true);
  }
});

test("the exit statuses are those of README and of --help", async () => {
  const help = (await helpOf()).replaceAll(/\s+/g, " ");
  for (const [status, meaning] of STATUSES) {
    expect(ROWS).toContainEqual({ first: status, second: meaning });
    expect(help).toContain(meaning);
  }
});

test("the man page in the checkout is the one that the program prints: bun run man", async () => {
  const { status, stdout, stderr } = await runProgram(["man"]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toBe(PAGE);
});
