/** What `bun run bench` is told, and where it saves what it has measured. */
import { describe, expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { options, RESULTS } from "../../bench/run/options.ts";
import { rows } from "../../bench/rows/index.ts";
import { tempFolder } from "../support/temp.ts";

const saved = (...args: string[]) => options(args)?.results;

describe("the results of the project", () => {
  test("are made by a run of all rows, and by --save of those that are named", () => {
    expect(saved()).toBe(RESULTS);
    expect(saved("--runs", "2")).toBe(RESULTS);
    expect(saved("--row", "unix", "--save")).toBe(RESULTS);
    expect(saved("--row", "unix")).toBeUndefined();
  });

  test("are never overwritten with disks of another size", () => {
    expect(saved("--size", "64")).toBeUndefined();
    expect(saved("--size", "64", "--results", RESULTS)).toBeUndefined();
    expect(saved("--size", "64", "--results", `${RESULTS}/../results/`)).toBeUndefined();
    expect(() => options(["--size", "64", "--row", "unix", "--save"])).toThrow("--save needs");
    expect(saved("--size", "4096")).toBe(RESULTS);
  });

  test("are not overwritten by another name of their folder", () => {
    using folder = tempFolder();
    symlinkSync(RESULTS, folder.file("link"));
    expect(saved("--size", "64", "--results", folder.file("link"))).toBeUndefined();
  });
});

test("another folder gets what is measured, of any size, and of some rows", () => {
  using folder = tempFolder();
  for (const path of [folder.path, folder.file("new")]) {
    expect(saved("--size", "64", "--results", path)).toBe(path);
    expect(saved("--size", "64", "--row", "tiny", "--results", path)).toBe(path);
  }
});

test("rows are measured in the order of the tables, and unknown ones are refused", () => {
  const chosen = options(["--row", "tls", "--row", "unix"])?.chosen.map(({ name }) => name);
  expect(chosen).toEqual(["unix", "tls"]);
  expect(options([])?.chosen).toEqual(rows);
  expect(() => options(["--row", "nothing"])).toThrow("there is no row nothing");
});
