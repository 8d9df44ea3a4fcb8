import { describe, expect, test } from "bun:test";
import { checkOptions } from "../../src/cli/check-options.ts";
import { COMMON_OPTIONS, parseAddress } from "../../src/cli/options.ts";
import { usageErrorOf } from "../support/thrown.ts";

const DEFINED = { ...COMMON_OPTIONS, keep: { type: "boolean" } } as const;

describe("checkOptions", () => {
  const refusal = (...words: string[]) => usageErrorOf(() => checkOptions(words, DEFINED));

  test.each([
    [[]],
    [["pipe=x", "image"]],
    [["-U", "path", "pipe=x", "-v"]],
    [["-Upath"]],
    [["--unix=path"]],
    [["--unix", "path"]],
    [["-p0", "-i", "::1"]],
    [["--keep", "--verbose", "--no-keep"]],
    [["--progress", "pipe=x"]],
    [["--progress=json", "--no-progress"]],
    // What follows is a value, whatever it looks like.
    [["-e", "--bogus"]],
    [["-P", "-"]],
    [["-"]],
  ])("takes %p", (words) => {
    expect(() => checkOptions(words, DEFINED)).not.toThrow();
  });

  test.each([
    ["--bogus", "--bogus"],
    ["--bogus=1", "--bogus"],
    ["-x", "-x"],
    ["-xv", "-x"],
    ["--p", "--p"],
    ["--U=path", "--U"],
    ["-unix", "-u"],
    ["--unixx", "--unixx"],
    ["--Unix", "--Unix"],
    ["--constructor", "--constructor"],
    ["--__proto__=x", "--__proto__"],
  ])("does not know %s", (word, shown) => {
    expect(refusal("pipe=x", word, "1")).toBe(`unknown option ${shown}: see --help`);
  });

  test.each(["--unix", "--port", "--ipaddr", "--exportname", "--pidfile", "-U", "-p", "-e"])(
    "wants a value after %s",
    (word) => {
      expect(refusal("pipe=x", word)).toBe(`${word} needs a value`);
    },
  );

  test.each([
    ["--keep=1", "--keep"],
    ["--verbose=false", "--verbose"],
    ["--verbose=", "--verbose"],
    ["-vv", "-v"],
    ["-v=1", "-v"],
  ])("wants no value in %s", (word, shown) => {
    expect(refusal(word)).toBe(`${shown} takes no value`);
  });

  test("gives an option that may go without a value one", () => {
    const words = ["-e", "--progress", "--progress", "pipe=x", "--progress=json", "--no-progress"];
    const taken = [
      "-e",
      "--progress",
      "--progress=on",
      "pipe=x",
      "--progress=json",
      "--no-progress",
    ];
    expect(checkOptions(words, DEFINED)).toEqual(taken);
  });

  test.each([
    "--no-bogus",
    "--no-unix",
    "--no-progress-fd",
    "--no-port",
    "--no-exportname",
    "--no-pidfile=1",
  ])("does not know %s: only what takes no value can be switched off", (word) => {
    expect(refusal(word, "1")).toMatch(/^unknown option --/);
  });
});

describe("parseAddress", () => {
  const refusal = (options: Parameters<typeof parseAddress>[0]) =>
    usageErrorOf(() => parseAddress(options));

  test("gives nothing when nothing is given", () => {
    expect(parseAddress({})).toBeUndefined();
  });

  test("gives nothing for -U -, which is a private socket", () => {
    expect(parseAddress({ unix: "-" })).toBeUndefined();
  });

  test("gives a Unix socket for -U", () => {
    expect(parseAddress({ unix: "/run/x" })).toEqual({ kind: "unix", path: "/run/x" });
  });

  test("gives this machine for -p alone", () => {
    expect(parseAddress({ port: "0" })).toEqual({ kind: "tcp", host: "127.0.0.1", port: 0 });
  });

  test("gives the standard port for -i alone", () => {
    expect(parseAddress({ ipaddr: "::" })).toEqual({ kind: "tcp", host: "::", port: 10809 });
  });

  test.each(["1", "10809", "65535", "00080"])("takes the port %s", (port) => {
    expect(parseAddress({ port, ipaddr: "::1" })).toEqual({
      kind: "tcp",
      host: "::1",
      port: Number(port),
    });
  });

  test.each(["65536", "99999", "100000", "-1", "", " 1", "1 ", "0x10", "1e3", "1.0", "nbd", "١"])(
    "refuses %p as a port",
    (port) => {
      expect(refusal({ port })).toStartWith(`-p ${port} is not a port`);
    },
  );

  test.each([
    ["a port", { port: "1" }],
    ["an address", { ipaddr: "::1" }],
    ["both", { port: "1", ipaddr: "::1" }],
  ])("refuses a Unix socket with %s", (_, other) => {
    expect(refusal({ unix: "/run/x", ...other })).toStartWith(
      "-U cannot be combined with -p and -i",
    );
  });

  test("refuses an empty path and an empty address", () => {
    expect(refusal({ unix: "" })).toBe("-U needs a path");
    expect(refusal({ ipaddr: "" })).toBe("-i needs an address");
  });
});
