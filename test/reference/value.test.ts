import { expect, test } from "bun:test";
import { type Value, valueOf } from "../../src/reference/value.ts";

const MEANINGS = { ALG: "sha256|md5", SINK: "PATH|-|fd:N|tcp:HOST:PORT" };

test.each<[string, Partial<Value>]>([
  ["SECONDS", {}],
  ["N", {}],
  ["PATH", { paths: "all" }],
  ["FILE", { paths: "all" }],
  ["DIR", { paths: "folders" }],
  ["off|on|require", { words: ["off", "on", "require"] }],
  ["json[:FILE]", { words: ["json"] }],
  ["fd:N", { starts: ["fd:"] }],
  ["tcp:HOST:PORT", { starts: ["tcp:"] }],
  ["ALG[:FILE]", { words: ["sha256", "md5"] }],
  ["-|ALG", { words: ["-", "sha256", "md5"] }],
  ["SINK", { words: ["-"], starts: ["fd:", "tcp:"], paths: "all" }],
  ["constructor|CONSTRUCTOR", { words: ["constructor"] }],
])("the value of the hint %s is known", (hint, known) => {
  const nothing: Value = { words: [], starts: [], paths: undefined };
  expect(valueOf(hint, MEANINGS)).toEqual({ ...nothing, ...known });
});
