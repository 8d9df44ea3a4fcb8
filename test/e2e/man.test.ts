/** The man page, as man-db shows it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, runProgram, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const PAGE = join(ROOT, "man/nbd-streaming.1");

const SECTIONS = [
  ...["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "PARAMETERS", "OPTIONS", "CAPTIVE COMMAND"],
  ...["EXIT STATUS", "SIGNALS", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"],
];

/** How man(1) shows a page, and what groff(1) has to say about it. */
async function shown(page: string, ...options: string[]) {
  const env = { LC_ALL: "C.UTF-8", MANWIDTH: "80", MANROFFSEQ: "", MANOPT: "" };
  const cmd = ["man", "--warnings", ...options, "-l", page];
  await using man = start(cmd, { env });
  return await man.ended();
}

/** The texts of options and the like, without what can be a line's end. */
const joined = (text: string) => text.replaceAll(/\s+/g, " ");

describe.skipIf(Bun.which("man") === null)("the man page", () => {
  test.each([[[]], [["-E", "UTF-8", "-Tutf8", "-Z"]]])(
    "is shown without a warning %p",
    async (options) => {
      const { status, stdout, stderr } = await shown(PAGE, ...options);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout.length).toBeGreaterThan(5_000);
    },
  );

  test("would be shown with a warning if there were a reason", async () => {
    using folder = tempFolder();
    const page = folder.file("page.1");
    writeFileSync(page, '.TH PAGE 1\n.SH NAME\npage \\- nothing\n.SH "NO END\n.nonsense\n');
    expect((await shown(page)).stderr).toContain("nonsense");
  });

  test("has its sections in the usual order", async () => {
    const { stdout } = await shown(PAGE);
    expect([...(stdout.match(/^[A-Z][A-Z ]+$/gm) ?? [])]).toEqual(SECTIONS);
  });

  test.each(["serve", "run"])("says of every option of %s what --help says", async (name) => {
    const page = joined((await shown(PAGE)).stdout);
    const { stdout: help } = await runProgram([name, "--help"]);
    const options = [...help.matchAll(/^ +(-\S.*?)(?: {2,}| {4})(\S.*)$/gm)];
    expect(options.length).toBeGreaterThan(15);
    for (const [, option = "", text = ""] of options) {
      expect(page).toContain(`${option.replace(/=<(.*)>/, "=$1")} ${text}.`);
    }
  });

  test("shows what is typed in the examples as it is", async () => {
    const { stdout } = await shown(PAGE);
    expect(stdout).toContain(
      "  nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'\n",
    );
  });
});
