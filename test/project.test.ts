/** What the files at the top of the project tell about it agrees with each other. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
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

test("each test that waits for others has as long as they may take on a busy machine", () => {
  const names = "bounded|command|eventually|runProgram|start|startProgram|\\w*Trial";
  const waits = new RegExp(
    `\\bBun\\.spawn|^import \\{[^}]*\\b(?:${names})\\b[^}]*\\} from "[^"]*support/`,
    "m",
  );
  const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(ROOT)];
  const waiting = files.filter((file) => waits.test(read(file)));
  expect(waiting.length).toBeGreaterThan(100);
  const isPatient = (file: string) => /setDefaultTimeout\(|timeout: /.test(read(file));
  expect(waiting.filter((file) => !isPatient(file))).toEqual([]);
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

describe("the workflows", () => {
  const names = readdirSync(join(ROOT, ".github/workflows"));
  const texts = names.map((name) => read(`.github/workflows/${name}`));
  const parsed = texts.map((text) => Bun.YAML.parse(text) as Workflow);
  const steps = parsed.flatMap(({ jobs }) => Object.values(jobs).flatMap((job) => job.steps));

  test("may only read what is in the repository, but for the jobs that say why", () => {
    for (const { permissions, jobs } of parsed) {
      expect(permissions).toEqual({ contents: "read" });
      for (const job of Object.values(jobs)) expect(job["timeout-minutes"]).toBeGreaterThan(0);
    }
    const writing = parsed.flatMap(({ jobs }) =>
      Object.entries(jobs).filter(([, { permissions = {} }]) =>
        Object.values(permissions).includes("write"),
      ),
    );
    expect(writing.map(([name]) => name)).toEqual(["build", "github", "npm", "image"]);
  });

  test("use actions by their commits, with the version behind it", () => {
    const lines = texts.flatMap((text) => text.match(/^.*\buses:.*$/gm) ?? []);
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      expect(line).toMatch(/uses: actions\/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    }
    // One version of each.
    const pinned = new Set(lines.map((line) => line.replace(/.*uses: /, "")));
    expect(new Set([...pinned].map((one) => one.replace(/@.*/, ""))).size).toBe(pinned.size);
  });

  test("leave no credentials in the checkout, and put no words of others into a script", () => {
    const checkouts = steps.filter(({ uses }) => uses?.startsWith("actions/checkout@"));
    expect(checkouts.length).toBeGreaterThan(2);
    for (const step of checkouts) expect(step.with).toMatchObject({ "persist-credentials": false });
    for (const { run = "" } of steps) expect(run).not.toContain("${{");
  });

  test("publish a file, and not a repository that npm could take its name for", () => {
    const published = steps.flatMap(({ run = "" }) => /\bnpm publish (\S+)/.exec(run)?.[1] ?? []);
    expect(published.length).toBe(1);
    for (const file of published) expect(file).toStartWith("./");
  });

  test("run scripts and files that there are", () => {
    const runs = steps.map(({ run = "" }) => run).join("\n");
    const scripts = [...runs.matchAll(/\bbun run (\S+)/g)].map(([, script]) => script as string);
    expect(scripts).toContain("release");
    expect(scripts.filter((script) => !(script in packageJson.scripts))).toEqual([]);
    const files = runs.match(/(?<![\w/$])(?:\.ci|test|packaging)\/[\w./-]+/g) ?? [];
    expect(files.length).toBeGreaterThan(2);
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  test("try the oldest Bun that the package allows, and release with one that it allows", () => {
    const oldest = packageJson.engines.bun.replace(">=", "");
    const matrices = parsed.flatMap(({ jobs }) =>
      Object.values(jobs).flatMap(({ strategy }) => strategy?.matrix.bun ?? []),
    );
    expect(matrices).toEqual([oldest, "latest", oldest, "latest"]);
    const [, version = ""] =
      /bun@(\d+\.\d+\.\d+)/.exec(read(".github/workflows/release.yml")) ?? [];
    expect(Bun.semver.satisfies(version, packageJson.engines.bun)).toBe(true);
  });
});

/** What is looked at of one (GitHub's "Workflow syntax"). */
interface Workflow {
  readonly permissions: unknown;
  readonly jobs: Record<string, Job>;
}

interface Job {
  readonly permissions?: Record<string, string>;
  readonly "timeout-minutes": number;
  readonly strategy?: { readonly matrix: { readonly bun?: readonly string[] } };
  readonly steps: readonly { uses?: string; run?: string; with?: object }[];
}

test("every form for issues has a title and what it asks", () => {
  const folder = ".github/ISSUE_TEMPLATE";
  const forms = readdirSync(join(ROOT, folder)).filter((name) => name !== "config.yml");
  expect(forms.length).toBeGreaterThan(1);
  for (const name of forms) {
    const form = Bun.YAML.parse(read(`${folder}/${name}`)) as { body: { id?: string }[] };
    expect(form).toMatchObject({ name: expect.any(String), description: expect.any(String) });
    const ids = form.body.flatMap(({ id }) => id ?? []);
    expect(new Set(ids).size).toBe(ids.length);
  }
});

test("the version is that of the documents and of the man page", () => {
  const documents = ["README.md", ...readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`)];
  const named = documents.flatMap((name) => [
    ...read(name).matchAll(/nbd-streaming[-_](\d+\.\d+\.\d+)(?:\.|-1[._])/g),
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
  for (const path of ["bun.lock", "man/nbd-streaming.1", "bench/results/**", "docs/session.svg"]) {
    expect(attributes).toMatch(
      new RegExp(`^${path.replaceAll("*", "\\*")} .*linguist-generated`, "m"),
    );
  }
});
