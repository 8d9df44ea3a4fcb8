import { expect, setDefaultTimeout, test } from "bun:test";
import { Place } from "./refusal.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const CASES: [string, string[], RegExp][] = [
  ["no words at all", [], /^which command\? there are serve and run/],
  ["an option without a command", ["-v"], /^which command\?/],
  ["no command before --", ["-v", "--", "true"], /^which command\?/],
  ["an unknown command", ["stream", "pipe=x"], /^unknown command stream: there are serve and run$/],
  ["an unknown command that asks for help", ["stream", "--help"], /^unknown command stream/],
  ["the name of a property as the command", ["constructor", "pipe=x"], /^unknown command/],
  ["a command with a line break", ["ser\nve"], /^unknown command ser ve/],
  ["no pipe", ["serve"], /^pipe=SINK is missing/],
  ["an empty pipe", ["serve", "pipe="], /^pipe= needs a value/],
  ["two pipes", ["serve", "pipe=x", "pipe=y"], /^pipe= is given twice/],
  ["pipe and write", ["serve", "pipe=x", "write=x"], /the same parameter/],
  ["an unknown parameter", ["serve", "pipe=x", "reads=y"], /^unknown parameter reads=/],
  ["an unknown argument", ["serve", "pipe=x", "disk"], /^unknown argument disk/],
  ["an unknown long option", ["serve", "pipe=x", "--bogus"], /^unknown option --bogus/],
  ["an unknown short option", ["serve", "pipe=x", "-x"], /^unknown option -x/],
  ["an option of the other command", ["run", "pipe=x", "--keep", "y"], /^unknown option --keep/],
  ["-f for serve", ["serve", "pipe=x", "-f", "raw"], /^unknown option -f/],
  ["a missing value", ["serve", "pipe=x", "-U"], /^-U needs a value/],
  ["a missing value before --", ["run", "pipe=x", "-e", "--", "true"], /^-e needs a value/],
  ["a value too many", ["serve", "pipe=x", "--keep=yes"], /^--keep takes no value/],
  ["a value switched off", ["serve", "--no-unix", "pipe=x"], /^unknown option --/],
  ["a name switched off", ["serve", "-p", "0", "--no-exportname", "pipe=x"], /^unknown option --/],
  ["-U with -p", ["serve", "pipe=x", "-U", "s", "-p", "0"], /^-U goes without -p/],
  ["an empty socket path", ["serve", "pipe=x", "-U", ""], /^-U needs a path/],
  ["an empty address", ["serve", "pipe=x", "-i", ""], /^-i needs an address/],
  ["a port out of range", ["serve", "pipe=x", "-p", "65536"], /^-p 65536 is not a port/],
  ["a negative port", ["serve", "pipe=x", "-p", "-1"], /^-p -1 is not a port/],
  ["a bad size", ["serve", "pipe=x", "size=much"], /^size=much is not a size/],
  ["a size out of range", ["serve", "pipe=x", "size=8E"], /^size=8E is too large/],
  ["a long name", ["serve", "pipe=x", "-e", "n".repeat(4097)], /^-e takes a name/],
  ["a command for serve", ["serve", "pipe=x", "--", "true"], /^serve takes no command/],
  ["nothing to run", ["run", "pipe=x"], /^nothing to run: give an IMAGE, or a command after --/],
  ["no command after --", ["run", "pipe=x", "--"], /^the command after -- is missing/],
  ["two images", ["run", "pipe=x", "a", "b"], /^only one IMAGE is taken: b is too many/],
  ["an image and a command", ["run", "pipe=x", "a", "--", "true"], /^unknown argument a/],
  ["a format for a command", ["run", "pipe=x", "-f", "raw", "--", "true"], /^-f goes with an/],
  ["pipe and read", ["serve", "pipe=x", "read=y"], /^read= goes without pipe= and write=/],
  ["write and read", ["run", "write=x", "read=y", "z.raw"], /^read= goes without pipe= and write=/],
  ["an empty read", ["serve", "read="], /^read= needs a value/],
  ["two reads", ["serve", "read=x", "read=y"], /^read= is given twice/],
  ["a bad descriptor to read", ["serve", "read=fd:x"], /^read=fd:x: fd: takes a number/],
  ["a read without a command", ["run", "read=x"], /^nothing to run: give an IMAGE, or a command/],
  ["a read with a bad size", ["serve", "read=x", "size=much"], /^size=much is not a size/],
  ["a read with a bad window", ["serve", "read=x", "window=17G"], /^window=17G is too large/],
  [
    "--reader-timeout with read",
    ["serve", "read=x", "--reader-timeout", "1"],
    /^--reader-timeout goes with pipe=: for read= it is --writer-timeout/,
  ],
  [
    "--writer-timeout with pipe",
    ["serve", "pipe=x", "--writer-timeout", "1"],
    /^--writer-timeout goes with read=: for pipe= it is --reader-timeout/,
  ],
  [
    "a bad --writer-timeout",
    ["serve", "read=x", "--writer-timeout=0"],
    /^--writer-timeout 0 is no/,
  ],
  ["--exact with pipe", ["run", "pipe=x", "--exact", "y"], /^--exact goes with read=/],
  ["--exact with a value", ["serve", "read=x", "--exact=yes"], /^--exact takes no value/],
  ["-O for serve", ["serve", "read=x", "-O", "raw"], /^unknown option -O/],
  ["-O with pipe", ["run", "pipe=x", "-O", "raw", "y"], /^-O goes with read=/],
  ["-O for a command", ["run", "read=x", "-O", "raw", "--", "true"], /^-O goes with an IMAGE/],
  ["-f with read", ["run", "read=x", "-f", "raw", "y.raw"], /^-f goes with pipe=/],
  [
    "an image of an unknown kind",
    ["run", "read=x", "y.xyz"],
    /^the format of y\.xyz does not show/,
  ],
  [
    "an image with no extension",
    ["run", "read=x", "y"],
    /^the format of y does not show .* give -O/,
  ],
  ["an image that is read", ["run", "read=y.raw", "y.raw"], /^read=y\.raw and IMAGE are the same/],
  ["an image without a size", ["run", "read=x", "y.raw"], /^size= is missing: the length of the/],
  ["--pad without a size", ["serve", "read=x", "--pad", "-U", "s"], /^--pad needs size=/],
  ["--exact without a size", ["serve", "read=x", "--exact", "-U", "s"], /^--exact needs size=/],
  [
    "--pad without a size, for a source that nobody has looked for yet",
    ["serve", "read=tcp:127.0.0.1:1", "--pad", "-U", "s"],
    /^--pad needs size=/,
  ],
  [
    "an image without a size, of such a source",
    ["run", "read=tcp:127.0.0.1:1", "y.raw"],
    /^size= is missing/,
  ],
  ["two images to make", ["run", "read=x", "a.raw", "b.raw"], /^only one IMAGE is taken: b\.raw/],
  ["help for the captive command only", ["run", "--", "true", "--help"], /^pipe=SINK is missing/],
];

test.each(CASES)("%s is a wrong command line", async (_, args, message) => {
  using place = new Place();
  expect(await place.refusal(args, 2)).toMatch(message);
});
