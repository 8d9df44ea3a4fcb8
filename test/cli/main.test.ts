import { describe, expect, setDefaultTimeout, test } from "bun:test";
import packageJson from "../../package.json" with { type: "json" };
import { RawClient } from "../support/nbd-client.ts";
import { PROGRAM, runProgram, start, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

describe("help", () => {
  /** What the program says on standard output, and nowhere else. */
  async function help(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await runProgram(args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  }

  test.each(["--help", "-h"])("for the program by %s names the commands", async (word) => {
    const text = await help(word);
    expect(text).toMatch(/^ *serve {2,}\S/m);
    expect(text).toMatch(/^ *run {2,}\S/m);
    expect(text).toMatch(/^ *check {2,}\S/m);
    expect(text).toContain("--version");
  });

  test.each(["serve", "run"])("for %s has an example, all options and parameters", async (name) => {
    const text = await help(name, "--help");
    expect(text).toContain(`USAGE nbd-streaming ${name} pipe=SINK`);
    expect(text).toMatch(new RegExp(`^EXAMPLE\\n\\n(  .*\\n)*  nbd-streaming ${name} pipe=`, "m"));
    for (const word of [
      "pipe=",
      "write=",
      "read=SOURCE",
      "size=SIZE",
      "window=SIZE",
      "-U",
      "-p",
      "-i",
      "-e",
      "-P",
    ]) {
      expect(text).toContain(word);
    }
  });

  test("for a command tells its own options only", async () => {
    const [serve, run] = await Promise.all([help("serve", "--help"), help("run", "--help")]);
    expect(serve).toContain("--keep");
    expect(run).not.toContain("--keep");
    expect(run).toContain("--format");
    expect(serve).not.toContain("--format");
    expect(run).toContain("$nbd");
  });

  test("for check has its three forms and no option of a server", async () => {
    const text = await help("check", "--help");
    for (const form of [
      "check [spool=DIR] [--json]",
      "check pipe=SINK|read=SOURCE",
      "-- COMMAND",
    ]) {
      expect(text).toContain(form);
    }
    expect(text).toContain("$nbd");
    expect(text).not.toContain("--unix");
  });

  test("comes whatever else is wrong with the command line", async () => {
    expect(await help("serve", "--bogus", "--help")).toBe(await help("serve", "--help"));
  });

  test("has no colours and no blanks at the ends of lines", async () => {
    const text = await help("run", "--help");
    expect(text).not.toContain("\x1b");
    expect(text).not.toMatch(/ $/m);
  });
});

test.each(["-V", "--version", "serve -V", "run pipe=x --version"])(
  "the version goes to standard output: %s",
  async (words) => {
    const { status, stdout, stderr } = await runProgram(words.split(" "));
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toStartWith(`nbd-streaming ${packageJson.version} (commit `);
  },
);

describe("messages", () => {
  /** All that is said while a client comes and leaves again. */
  async function saidOf(...more: string[]): Promise<string[]> {
    using folder = tempFolder();
    const args = ["serve", "pipe=x", "-U", "s", "-P", "pid", ...more];
    await using program = startProgram(args, { cwd: folder.path });
    await program.saying(/listening on /);
    {
      using client = await RawClient.transmission(folder.file("s"));
      client.disconnect();
      await client.closed();
    }
    program.process.kill("SIGTERM");
    const { stdout, stderr } = await program.ended();
    expect(stdout).toBe("");
    return stderr.trimEnd().split("\n");
  }

  test("tell where the server listens and how the stream ended, and that is all", async () => {
    const lines = (await saidOf()).filter((line) => !line.includes("waiting for a reader"));
    expect(lines).toEqual([
      "nbd-streaming: listening on nbd+unix:///?socket=s",
      expect.stringMatching(/^nbd-streaming: error: 0 bytes .*: truncated: ended by SIGTERM$/),
    ]);
  });

  test("tell more with -v, and of every line who says it", async () => {
    const lines = await saidOf("-v");
    expect(lines).toContain("nbd-streaming: client 1 connected");
    for (const line of lines) expect(line).toStartWith("nbd-streaming: ");
  });

  test("take the value of an option as it is, even if it looks like one", async () => {
    const [line] = await saidOf("-e", "--keep");
    expect(line).toBe("nbd-streaming: listening on nbd+unix:///--keep?socket=s");
  });

  test("that cannot be written do not change the exit status", async () => {
    const cmd = ["sh", "-c", '"$0" "$@" 2>/dev/full', ...PROGRAM, "serve"];
    await using program = start(cmd);
    expect(await program.ended()).toEqual({ status: 2, stdout: "", stderr: "" });
  });
});
