/** The completions in the shells that they are for. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { command, runProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { typed } from "../support/typist.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** The folder to complete files of. */
const cwd = folder.file("here");
const script = (shell: string) => folder.file(`completions.${shell}`);

beforeAll(async () => {
  mkdirSync(`${cwd}/pki`, { recursive: true });
  for (const file of ["disk.fifo", "other file"]) writeFileSync(`${cwd}/${file}`, "");
  for (const shell of ["bash", "zsh", "fish"]) {
    const { status, stdout, stderr } = await runProgram(["completions", shell]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    writeFileSync(script(shell), stdout);
  }
});

const missing = (shell: string) => Bun.which(shell) === null;

describe.each(["bash", "zsh", "fish"])("the script for %s", (shell) => {
  test.skipIf(missing(shell))("is right in its syntax", async () => {
    expect(await command([shell, "-n", script(shell)])).toBe("");
  });
});

/** What is typed after the program's name, with Tab as →, and the words that come of it. */
const LINES: [string, string[]][] = [
  ["se→", ["serve"]],
  ["--ver→", ["--version"]],
  ["ru→pi→di→", ["run", "pipe=disk.fifo"]],
  ["serve pipe=ex→cat", ["serve", "pipe=exec:cat"]],
  ["serve write=oth→", ["serve", "write=other file"]],
  ["serve read=./d→siz→1G", ["serve", "read=./disk.fifo", "size=1G"]],
  ["serve --max-c→8", ["serve", "--max-connections", "8"]],
  ["serve --tls re→", ["serve", "--tls", "require"]],
  ["serve --tls=re→", ["serve", "--tls=require"]],
  ["serve --tls-certificates p→", ["serve", "--tls-certificates", "pki"]],
  ["serve --checksum=b→", ["serve", "--checksum=blake2b512"]],
  ["serve -U di→--kee→", ["serve", "-U", "disk.fifo", "--keep"]],
  ["serve --no-pa→", ["serve", "--no-pad"]],
  [
    "serve -e vda pi→di→--export→vdb --fail-f→",
    ["serve", "-e", "vda", "pipe=disk.fifo", "--exportname", "vdb", "--fail-fast"],
  ],
  [
    "run -e vda --no-pad --checksum=md5 -e vdb --no-pa→--checksum=sha5→",
    [
      "run",
      "-e",
      "vda",
      "--no-pad",
      "--checksum=md5",
      "-e",
      "vdb",
      "--no-pad",
      "--checksum=sha512",
    ],
  ],
  ["run -O vhd→read=- di→", ["run", "-O", "vhdx", "read=-", "disk.fifo"]],
  ["run pipe=x -- qemu-im→di→", ["run", "pipe=x", "--", "qemu-img", "disk.fifo"]],
  ["completions z→", ["completions", "zsh"]],
];

/** Some shells leave out = or / where the others do not. */
const plain = (words: readonly string[]) =>
  words.flatMap((word) =>
    word
      .replace(/\/$/, "")
      .replace(/^(--[a-z-]+)=/, "$1 ")
      .split(/(?<=^--\S*) /),
  );

describe("bash", () => {
  test.each(LINES)("completes %s", async (line, words) => {
    const cmd = ["bash", "--norc", "--noprofile", "-i"];
    const setup = [`source ${script("bash")}`];
    const got = await typed(`nbd-streaming ${line.replaceAll("→", "\t")}`, { cmd, setup, cwd });
    expect(plain(got)).toEqual(plain(words));
  });

  /** All that is offered for the last word; the words are taken apart as bash does it. */
  async function offered(words: readonly string[]): Promise<string[]> {
    const show = `source "$0"; COMP_LINE=$1; COMP_POINT=\${#1}; shift; COMP_WORDS=("$@")
      COMP_CWORD=$(($# - 1)); _nbd_streaming; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const line = words.join(" ").replaceAll(/ ([=:]) ?/g, "$1");
    return (await command(["bash", "-c", show, script("bash"), line, ...words], { cwd }))
      .split("\n")
      .slice(0, -1);
  }

  test.each<[string[], string[]]>([
    [
      ["nbd-streaming", ""],
      ["serve", "run", "completions", "man"],
    ],
    [
      ["nbd-streaming", "serve", "--tls", "=", ""],
      ["off", "on", "require"],
    ],
    [
      ["nbd-streaming", "serve", "--tls", "="],
      ["off", "on", "require"],
    ],
    [
      ["nbd-streaming", "serve", "--checksum", ""],
      ["sha256", "sha512", "md5", "blake2b512"],
    ],
    [
      ["nbd-streaming", "run", "-f", ""],
      ["qcow2", "raw"],
    ],
    [
      ["nbd-streaming", "serve", ""],
      ["pipe=", "write=", "read=", "size=", "window="],
    ],
    [
      ["nbd-streaming", "run", ""],
      ["pipe=", "read=", "disk.fifo", "other file", "pki"],
    ],
    [
      ["nbd-streaming", "serve", "pipe", "="],
      ["-", "fd:", "tcp:", "exec:", "disk.fifo", "pki"],
    ],
    [
      ["nbd-streaming", "serve", "-"],
      ["-U", "--unix", "--keep", "--no-pad", "--help"],
    ],
    [["nbd-streaming", "serve", "--tls-certificates", ""], ["pki"]],
    [
      ["nbd-streaming", "completions", ""],
      ["bash", "zsh", "fish"],
    ],
  ])("offers for %j all of %j", async (words, some) => {
    expect(await offered(words)).toEqual(expect.arrayContaining(some));
  });

  test.each<[string[]]>([
    [["nbd-streaming", "stream", ""]],
    [["nbd-streaming", "serve", "size", "=", "1"]],
    [["nbd-streaming", "serve", "--port", ""]],
    [["nbd-streaming", "serve", "pipe=x", "--", ""]],
  ])("offers nothing for %j", async (words) => {
    expect((await offered(words)).join("")).toBe("");
  });
});

describe("zsh", () => {
  const type = (line: string, before: readonly string[], after: readonly string[]) =>
    typed(`nbd-streaming ${line.replaceAll("→", "\t")}`, {
      cmd: ["zsh", "-f", "-i"],
      setup: [
        ...before,
        "autoload -Uz compinit",
        "compinit -D -u",
        // What is typed this fast is taken for pasted, in which a tab is a tab.
        `zstyle ':completion:*' insert-tab false`,
        ...after,
      ],
      cwd,
    });

  test.skipIf(missing("zsh")).each(LINES)("completes %s", async (line, words) => {
    const got = await type(line, [], [`source ${script("zsh")}`]);
    expect(plain(got)).toEqual(plain(words));
  });

  test.skipIf(missing("zsh"))("finds the script as a file in fpath", async () => {
    const functions = folder.file("functions");
    mkdirSync(functions);
    copyFileSync(script("zsh"), `${functions}/_nbd-streaming`);
    expect(await type("se→pi→di→", [`fpath=(${functions} $fpath)`], [])).toEqual([
      "serve",
      "pipe=disk.fifo",
    ]);
  });
});

describe("fish", () => {
  /** What is typed up to the last Tab, as fish gets it from the user. */
  async function offered(line: string): Promise<string[]> {
    const show = 'source $argv[1]; complete -C "$argv[2]"';
    const cmd = ["fish", "--no-config", "-c", show, script("fish"), `nbd-streaming ${line}`];
    const env = { HOME: folder.path, XDG_CONFIG_HOME: folder.path, XDG_DATA_HOME: folder.path };
    return (await command(cmd, { cwd, env }))
      .split("\n")
      .map((entry) => entry.split("\t")[0] ?? "");
  }

  test.skipIf(missing("fish")).each<[string, string[]]>([
    ["se", ["serve"]],
    ["--ver", ["--version"]],
    ["serve ", ["pipe=", "write=", "read=", "size=", "window="]],
    ["run pipe=x di", ["disk.fifo"]],
    ["serve pipe=", ["pipe=-", "pipe=fd:", "pipe=exec:", "pipe=disk.fifo", "pipe=other file"]],
    ["serve --tls ", ["off", "on", "require"]],
    ["serve --tls=r", ["--tls=require"]],
    ["serve --tls-certificates ", ["pki/"]],
    ["serve --", ["--keep", "--no-pad", "--unix", "--help"]],
    ["serve -e vda pipe=a -e vdb --", ["--exportname", "--checksum", "--fail-fast"]],
    ["run --checksum=md5 -e vda --checksum=sha5", ["--checksum=sha512"]],
    ["run -O vhd", ["vhdx"]],
    ["run pipe=x -- qemu-im", ["qemu-img"]],
    ["completions ", ["bash", "zsh", "fish"]],
  ])("offers for %s all of %j", async (line, some) => {
    expect(await offered(line)).toEqual(expect.arrayContaining(some));
  });
});
