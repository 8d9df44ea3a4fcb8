/** What the files at the top of the project tell about it agrees with each other. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";

const ROOT = join(import.meta.dir, "..");
const read = (name: string) => readFileSync(join(ROOT, name), "utf8");

/** npm runs them by itself. */
const HOOKS = ["prepack", "postpack"];
/** Commands of Bun's own, by the scripts that stand for them. */
const BUILT_IN: Record<string, string> = {
  "bun check": "types",
  "bun fmt": "fmt",
};

test("CONTRIBUTING has every script, in the order of package.json, and no other", () => {
  const commands = [...read("CONTRIBUTING.md").matchAll(/^\| `(bun [^`]+)`/gm)].map(
    ([, command = ""]) => BUILT_IN[command] ?? command.replace("bun run ", ""),
  );
  const scripts = Object.keys(packageJson.scripts).filter((name) => !HOOKS.includes(name));
  expect(commands).toEqual(scripts);
});

test(".ci/run checks types, format, lint and unused code", () => {
  const ci = read(".ci/run");
  for (const command of ["check", "fmt --check", "run lint", "run unused"]) {
    expect(ci).toContain(`\nnpx --yes bun ${command} || status=1\n`);
  }
});

test("tools that judge the code have an exact version", () => {
  const { oxlint, knip } = packageJson.devDependencies;
  for (const version of [oxlint, knip]) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
});

test("no line of the code has an exception from the linter", () => {
  const files = [...new Bun.Glob("{src,ffi,test,bench,demo,packaging}/**/*.ts").scanSync(ROOT)];
  const word = ["-disable", "-enable"].flatMap((end) => [`oxlint${end}`, `eslint${end}`]);
  expect(files.filter((file) => word.some((one) => read(file).includes(one)))).toEqual([]);
});

describe("CHANGELOG", () => {
  const lines = read("CHANGELOG.md").split("\n");
  const versions = lines.filter((line) => line.startsWith("## "));

  test("has what is not released yet on top, then versions with their dates, the newest first", () => {
    const [first, ...released] = versions;
    expect(first).toBe("## [Unreleased]");
    for (const line of released) expect(line).toMatch(/^## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d$/);
    const order = released.toSorted((a, b) => Bun.semver.order(versionOf(b), versionOf(a)));
    expect(released).toEqual(order);
    const dates = released.map((line) => line.slice(-10));
    expect(dates).toEqual(dates.toSorted().toReversed());
  });

  test("has the version of package.json as the newest", () => {
    expect(versionOf(versions[1] as string)).toBe(packageJson.version);
  });

  test("sorts changes by the kinds of Keep a Changelog, each once in a version", () => {
    const kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    let seen: string[] = [];
    for (const line of lines) {
      if (line.startsWith("## ")) seen = [];
      if (!line.startsWith("### ")) continue;
      const kind = line.slice(4);
      expect(kinds).toContain(kind);
      expect(seen).not.toContain(kind);
      seen.push(kind);
    }
  });

  function versionOf(line: string): string {
    return /\[(.*)\]/.exec(line)?.[1] ?? "";
  }
});

test("the version is that of the documents and of the man page", () => {
  const documents = ["README.md", ...readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`)];
  const named = documents.flatMap((name) => [
    ...read(name).matchAll(/nbd-streaming-(\d+\.\d+\.\d+)\.tgz/g),
  ]);
  expect([...new Set(named.map(([, version]) => version))]).toEqual([packageJson.version]);
  expect(read("man/nbd-streaming.1")).toContain(`"nbd\\-streaming ${packageJson.version}"`);
});

test("SECURITY names every CVE that a test is named after", () => {
  const files = [...new Bun.Glob("{src,ffi,test}/**/*.ts").scanSync(ROOT)];
  const named = files.flatMap((file) => read(file).match(/CVE-\d{4}-\d+/g) ?? []);
  expect(named.length).toBeGreaterThan(5);
  const known = new Set(read("SECURITY.md").match(/CVE-\d{4}-\d+/g));
  expect([...new Set(named)].filter((cve) => !known.has(cve))).toEqual([]);
});

test("what is made by a program is marked so for git", () => {
  const attributes = read(".gitattributes");
  expect(readdirSync(ROOT)).toContain("bun.lock");
  for (const path of ["bun.lock", "man/nbd-streaming.1", "bench/results/**"]) {
    expect(attributes).toMatch(
      new RegExp(`^${path.replaceAll("*", "\\*")} .*linguist-generated`, "m"),
    );
  }
});
