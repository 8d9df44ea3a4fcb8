import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { outlineOf } from "../../src/cli/documents.ts";
import { program } from "../../src/cli/main.ts";
import { COMMAND_LINE } from "../../src/cli/vocabulary.ts";
import { clientText } from "../../src/messages/client-text.ts";
import type { Failure, Notice } from "../../src/messages/notice.ts";
import { messageIn, NoticeError, optionError } from "../../src/messages/notice-error.ts";
import { textOf } from "../../src/messages/text.ts";
import { LIBRARY, type Option, type Vocabulary } from "../../src/messages/vocabulary.ts";
import { SAMPLES } from "./samples.ts";

const NOTICES: readonly Notice[] = Object.values(SAMPLES).flat();
const PEOPLE = [
  ["the command line", COMMAND_LINE],
  ["the library", LIBRARY],
] as const;

/** Options of other programs, which both are told of. */
const THEIRS = /nbdcopy --synchronous|-O raw|zstd -dc|ulimit -[nf]|qemu-img without -W/g;

/** How an option looks on a command line, ours or another one's. */
const FLAG = /(^|[\s(])--?[a-zA-Z]|\b[a-z]+=/;

/** All messages as test/messages/messages.txt has them. */
function listed(): string {
  const blocks = Object.entries(SAMPLES).map(([code, notices]) => {
    const lines = (notices as readonly Notice[]).map((notice) => {
      const [ours, theirs] = PEOPLE.map(([, words]) => textOf(notice, words));
      return ours === theirs
        ? `  ${ours}\n`
        : `  command line: ${ours}\n  library:      ${theirs}\n`;
    });
    return `${code}\n${lines.join("")}`;
  });
  return blocks.join("\n");
}

test("all messages are those of the list", () => {
  expect(listed()).toBe(readFileSync(join(import.meta.dir, "messages.txt"), "utf8"));
});

describe.each(PEOPLE)("for %s", (_, words: Vocabulary) => {
  test.each(NOTICES)("$code is one line, in which nothing is missing", (notice) => {
    const text = textOf(notice, words);
    expect(text).toMatch(/^\S.*\S$/);
    expect(text).not.toMatch(/\n|undefined|null|NaN|\[object|=>/);
  });
});

test.each(NOTICES)("$code names no option of the command line to a program", (notice) => {
  expect(textOf(notice, LIBRARY).replaceAll(THEIRS, "")).not.toMatch(FLAG);
});

test.each(NOTICES)("$code names no option of the library on the command line", (notice) => {
  const text = textOf(notice, COMMAND_LINE).replaceAll(/\b[a-z]+=exec:'.*'/g, "");
  expect(text).not.toMatch(
    /\b(pipe|read|size|window|pad|exact|format): ("|true\b|false\b|\d)|\b(listen|tls)\.[a-z]|[a-z](Timeout|File)\b/,
  );
});

test("a text stays as it is", () => {
  for (const [, words] of PEOPLE)
    expect(textOf("use --pad, size=1", words)).toBe("use --pad, size=1");
});

/** Failures of a stream that had not begun, or whose end is the size. */
const NOWHERE = new Set(["NO_READER", "NO_WRITER", "SINK_TAKEN", "SPOOL_TOO_LONG", "SURPLUS"]);
/** What the kernel says has to do: there is no telling what is wrong with a sink. */
const HELPLESS = new Set(["SINK_FULL", "SINK_FAILED"]);

const FAILURES = NOTICES.filter((notice): notice is Failure => "errno" in notice);

test.each(FAILURES)("$code tells where the stream stood, and what to do", (failure) => {
  const text = textOf(failure, COMMAND_LINE);
  if (!NOWHERE.has(failure.code)) expect(text).toMatch(/ byte \d+\b/);
  const remedy = /[:;] (see|use|give|name|copy|start|have|window=|is the size right\?)|; if /;
  if (!HELPLESS.has(failure.code)) expect(text).toMatch(remedy);
});

describe("a client", () => {
  test.each(FAILURES)("is told of $code without options, and without advice", (failure) => {
    const text = clientText(failure);
    expect(text).toMatch(/^\S.*\S$/);
    expect(text).not.toMatch(FLAG);
    expect(text).not.toMatch(/undefined|window|pad|see why/);
  });

  test("is told what happened where its request has to do with it", () => {
    const texts = (["BACKWARD_READ", "SOURCE_ENDED", "SOURCE_FAILED", "SURPLUS"] as const).map(
      (code) => clientText(SAMPLES[code][0] as Failure),
    );
    expect(texts).toEqual([
      "NBD_CMD_READ of 512 bytes at 1024 lies behind the stream, which has reached byte 4096: " +
        "the client does not read from start to end",
      "in ended at byte 4096, and the client wants more",
      "in failed (EIO), with the stream at byte 4096",
      "in has at least 1 bytes more than 8192",
    ]);
  });
});

describe("an error with a notice", () => {
  test("has the library's words, and others on demand", () => {
    const error = new NoticeError("ERR_LISTEN", {
      code: "CANNOT_LISTEN",
      where: "there",
      at: "port",
      error: "EADDRINUSE",
      message: "",
    });
    expect(error).toMatchObject({ name: "UserError", code: "ERR_LISTEN", exitStatus: 3 });
    expect(error.message).toEndWith("choose another port with listen.port");
    expect(messageIn(error, COMMAND_LINE)).toEndWith("choose another port with -p");
  });

  test("of an option has the exit status of a wrong command line", () => {
    const error = optionError({ code: "ENDPOINT_MISSING" });
    expect(error).toMatchObject({ code: "ERR_USAGE", exitStatus: 2 });
  });

  test("and anything else that was thrown has a text", () => {
    expect(messageIn(new Error("boom"), COMMAND_LINE)).toBe("boom");
    expect(messageIn("boom", COMMAND_LINE)).toBe("boom");
  });
});

/** The options that messages name. */
function namedOptions(): readonly Option[] {
  const named: Option[] = [];
  const note = (option: Option) => `${named.push(option)}`;
  for (const notice of NOTICES) textOf(notice, { ...COMMAND_LINE, name: note, given: note });
  return [...new Set(named)];
}

describe("an option", () => {
  const { commands, keys } = outlineOf(program);
  const flags = commands
    .flatMap(({ options }) => options)
    .flatMap(({ long, short }) => [long, short]);
  const ours = [...flags, ...keys.map(({ key }) => key), "IMAGE"];

  test.each(namedOptions())("%s has a name that the command line has", (option) => {
    expect(ours).toContain(COMMAND_LINE.name(option));
  });

  test.each([
    ["readerTimeout", "--reader-timeout", "openTimeout"],
    ["writerTimeout", "--writer-timeout", "openTimeout"],
    ["socketPath", "--unix", "listen.path"],
    ["port", "-p", "listen.port"],
    ["address", "-i", "listen.host"],
    ["single", "--single", 'listen.kind "single"'],
    ["certificates", "--tls-certificates", "tls.certificates"],
    ["exportName", "-e", "exportName"],
    ["pidFile", "--pidfile", "pidFile"],
    ["inputFormat", "-f", "format"],
    ["outputFormat", "-O", "format"],
  ] as const)("%s is %s, or %s", (option, flag, property) => {
    expect(ours).toContain(flag);
    expect(COMMAND_LINE.name(option)).toBe(flag);
    expect(LIBRARY.name(option)).toBe(property);
  });
});

describe("an option with its value", () => {
  test.each([
    ["size", 10n, "size=10", "size: 10n"],
    ["window", "64M", "window=64M", 'window: "64M"'],
    ["pad", true, "--pad", "pad: true"],
    ["pad", false, "--no-pad", "pad: false"],
    ["pipe", 'exec:echo "x"', 'pipe=exec:echo "x"', 'pipe: "exec:echo \\"x\\""'],
    ["outputFormat", "raw", "-O raw", 'format: "raw"'],
    ["idleTimeout", 60, "--idle-timeout=60", "idleTimeout: 60"],
  ] as const)("%s, %p, is %s, or %s", (option, value, flag, property) => {
    expect(COMMAND_LINE.given(option, value)).toBe(flag);
    expect(LIBRARY.given(option, value)).toBe(property);
  });
});
