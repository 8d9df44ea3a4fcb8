import { describe, expect, test } from "bun:test";
import { COMMON_OPTIONS, parseAddress, streamOptions } from "../../src/cli/options.ts";
import { COMMAND_LINE } from "../../src/cli/vocabulary.ts";
import { checkOptions } from "../../src/cli/words.ts";
import { DEFAULTS, resolveServe } from "../../src/library/options.ts";
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

describe("the options of a stream", () => {
  test("are given to the library by its names, as values", () => {
    const args = {
      exportname: "disk",
      pidfile: "pid",
      pad: false,
      exact: true,
      "writer-timeout": "1.5",
      "max-connections": "7",
      "negotiation-timeout": "2",
      "idle-timeout": "0",
      reconnect: "30",
      "progress-interval": "0.5",
      tls: "on",
      "tls-certificates": "pki",
    };
    expect(streamOptions(args, "read")).toEqual({
      exportName: "disk",
      pidFile: "pid",
      pad: false,
      exact: true,
      openTimeout: 1.5,
      maxConnections: 7,
      negotiationTimeout: 2,
      idleTimeout: 0,
      reconnect: 30,
      progressInterval: 0.5,
      tls: { policy: "on", certificates: "pki", verifyPeer: undefined },
    });
    expect(streamOptions({}, "write")).toEqual({ tls: undefined });
  });

  test.each([
    [{ "reader-timeout": "0" }, "--reader-timeout 0 is no time"],
    [{ "negotiation-timeout": "9999999" }, "--negotiation-timeout 9999999 is no time"],
    [{ "idle-timeout": "soon" }, "--idle-timeout soon is no time"],
    [{ "max-connections": "0" }, "--max-connections 0 is no number of clients"],
  ])("are named as they are written: %p", (args, message) => {
    const resolve = () => resolveServe({ pipe: "x", ...streamOptions(args, "write") });
    expect(usageErrorOf(resolve, COMMAND_LINE)).toStartWith(message);
  });

  test("are described with the defaults that they have", () => {
    const said = (name: keyof typeof COMMON_OPTIONS) => {
      return /default:? ([^)]*)\)/.exec(COMMON_OPTIONS[name].description)?.[1];
    };
    expect(said("max-connections")).toBe(`${DEFAULTS.maxConnections}`);
    expect(said("negotiation-timeout")).toBe(`${DEFAULTS.negotiationTimeout}`);
    expect(said("progress-interval")).toBe(`${DEFAULTS.progressInterval}`);
    expect(said("ipaddr")).toBe(DEFAULTS.listen.host);
  });
});
