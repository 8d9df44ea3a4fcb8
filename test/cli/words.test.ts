/** A command line with several `-e`, split into the words of each stream. */
import { describe, expect, test } from "bun:test";
import { COMMON_OPTIONS } from "../../src/cli/options.ts";
import { checkOptions, splitStreams } from "../../src/cli/words.ts";
import { usageErrorOf } from "../support/thrown.ts";

const DEFINED = { ...COMMON_OPTIONS, keep: { type: "boolean" } } as const;

const split = (...words: string[]) => splitStreams(checkOptions(words, DEFINED), DEFINED);
const stream = (name: string, ...words: string[]) => ({ name, words });

describe("splitStreams", () => {
  test.each([
    [[]],
    [["pipe=x"]],
    [["-e", "vda", "pipe=x"]],
    [["--exportname=vda", "-v", "-v"]],
    // The second one is the value of another option.
    [["-e", "vda", "-U", "-e"]],
  ])("leaves %p to one stream", (words) => {
    expect(split(...words)).toBeUndefined();
  });

  test("gives each stream what stands behind its name", () => {
    expect(split("-e", "vda", "pipe=a", "size=1M", "-e", "vdb", "read=b", "window=2M")).toEqual({
      common: [],
      streams: [stream("vda", "pipe=a", "size=1M"), stream("vdb", "read=b", "window=2M")],
    });
  });

  test("gives all streams what stands before the first name", () => {
    expect(split("pipe=x", "--checksum=md5", "-e", "vda", "-e", "vdb", "--pad")).toEqual({
      common: ["pipe=x", "--checksum=md5"],
      streams: [stream("vda"), stream("vdb", "--pad")],
    });
  });

  test("gives all streams what is the server's, wherever it stands", () => {
    const words = ["-e", "a", "-U", "s", "x=1", "-e", "b", "-v", "--tls", "on", "--keep", "y=2"];
    expect(split(...words)).toEqual({
      common: ["-U", "s", "-v", "--tls", "on", "--keep"],
      streams: [stream("a", "x=1"), stream("b", "y=2")],
    });
  });

  test.each([
    ["apart", ["-e", "vdb"]],
    ["attached", ["-evdb"]],
    ["in full", ["--exportname", "vdb"]],
    ["in full with =", ["--exportname=vdb"]],
  ])("takes a name that is %s", (_, words) => {
    expect(split("-evda", ...words, "pipe=x")?.streams).toEqual([
      stream("vda"),
      stream("vdb", "pipe=x"),
    ]);
  });

  test.each([
    "",
    " ",
    "--",
    "-e",
    "--pad",
    "pipe=x",
    "a=b",
    "$(touch x)",
    "it's",
    'a "b"',
    "a/b",
    "ä",
    "a\nb",
  ])("takes %p for a name, whatever it looks like", (name) => {
    expect(split("-e", "vda", "-e", name, "size=1")?.streams).toEqual([
      stream("vda"),
      stream(name, "size=1"),
    ]);
    if (name === "") return;
    expect(split("-e", "vda", `-e${name}`)?.streams[1]).toEqual(stream(name));
    expect(split("-e", "vda", `--exportname=${name}`)?.streams[1]).toEqual(stream(name));
  });

  test.each([
    ["--checksum", "-e"],
    ["--idle-timeout", "--pad"],
    ["--reconnect", "-v"],
    ["--reader-timeout", "pipe=x"],
  ])("leaves %s its value %s", (option, value) => {
    expect(split("-e", "vda", option, value, "-e", "vdb")?.streams).toEqual([
      stream("vda", option, value),
      stream("vdb"),
    ]);
  });

  test("tells an option's value from a name", () => {
    expect(split("-e", "vda", "-e", "vdb", "-P", "-e", "-U", "--exportname=x")).toEqual({
      common: ["-P", "-e", "-U", "--exportname=x"],
      streams: [stream("vda"), stream("vdb")],
    });
  });

  test("leaves a stream its --no-pad, in spite of --pad for all", () => {
    expect(split("--pad", "-e", "vda", "--no-pad", "-e", "vdb")).toEqual({
      common: ["--pad"],
      streams: [stream("vda", "--no-pad"), stream("vdb")],
    });
  });

  test("knows options whose value may be omitted", () => {
    expect(split("-e", "vda", "--progress", "-e", "vdb", "pipe=x")).toEqual({
      common: ["--progress=on"],
      streams: [stream("vda"), stream("vdb", "pipe=x")],
    });
  });

  test("knows that an option that is switched off has no value", () => {
    expect(split("-e", "vda", "--no-progress", "-U", "x", "-e", "vdb")).toEqual({
      common: ["--no-progress", "-U", "x"],
      streams: [stream("vda"), stream("vdb")],
    });
    expect(split("-e", "vda", "--no-progress", "-e", "vdb")?.streams).toHaveLength(2);
  });

  test.each([
    [["-v", "-e", "a", "-e", "b", "-v"], "verbose"],
    [["-e", "a", "-U", "x", "-e", "b", "-U", "y"], "unix"],
    [["-e", "a", "-U", "x", "-e", "b", "--unix=x"], "unix"],
    [["-e", "a", "--progress", "-e", "b", "--progress=json"], "progress"],
    [["-e", "a", "--progress", "-e", "b", "--no-progress"], "progress"],
    [["-e", "a", "--keep", "--keep", "-e", "b"], "keep"],
    [["-e", "a", "--summary=json", "-e", "b", "--summary=json"], "summary"],
    [["-e", "a", "--max-connections", "1", "-e", "b", "--max-connections=2"], "max-connections"],
  ])("refuses %p, of which all streams have one", (words, name) => {
    expect(usageErrorOf(() => split(...words))).toBe(
      `--${name} is given twice: it is for all streams, so give it once`,
    );
  });

  test("takes a stream's own option once for each, and for all", () => {
    const words = ["--exact", "-e", "a", "--exact", "-e", "b", "--exact"];
    expect(split(...words)?.streams).toEqual([stream("a", "--exact"), stream("b", "--exact")]);
  });
});
