/** A release, as far as it can be made without a registry and within seconds. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { changesOf, releaseNotes } from "../../packaging/release/notes.ts";
import { commitAll, copyCheckout, copyPackages, shown } from "../support/checkout.ts";
import { command, type Ended, ROOT, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const NO_GIT = Bun.which("git") === null;
const checkout = folder.file("checkout");
const dist = join(checkout, "dist");
const TARBALL = `nbd-streaming-${packageJson.version}.tgz`;

/** A Bun that runs on glibc says on which. */
const { header } = process.report.getReport() as { header: object };
const OWN = `linux-${process.arch}${"glibcVersionRuntime" in header ? "" : "-musl"}`;
const ALL = ["linux-arm64", "linux-arm64-musl", "linux-x64", "linux-x64-musl"];

/** Of another folder, and at another time, but of the same commit. */
async function release(where: string): Promise<Ended> {
  const nowhere = "http://127.0.0.1:1/";
  const env = {
    ...{ https_proxy: nowhere, HTTPS_PROXY: nowhere, no_proxy: undefined, NO_PROXY: undefined },
    // What an earlier build has fetched is not to be found.
    BUN_INSTALL_CACHE_DIR: folder.file("cache"),
  };
  const cmd = [process.execPath, "run", "release", "tarball", "binaries"];
  await using building = start(cmd, { cwd: where, env });
  return await building.ended();
}

describe.skipIf(NO_GIT)("bun run release without a registry", () => {
  let ended: Ended;
  let commit: string;

  beforeAll(async () => {
    copyCheckout(checkout);
    copyPackages(checkout);
    commit = await commitAll(checkout);
    mkdirSync(dist);
    // Of an earlier release, and not to be taken for one of this.
    for (const target of ALL) writeFileSync(join(dist, `nbd-streaming-${target}`), "");
    writeFileSync(join(dist, "SHA256SUMS"), "");
    ended = await release(checkout);
  });

  test("makes the binary of this machine, which names the commit", async () => {
    const binary = join(dist, `nbd-streaming-${OWN}`);
    expect(await command([binary, "--version"])).toEndWith(`(commit ${shown(commit)})\n`);
  });

  test("says in one line each what it cannot make, and fails", () => {
    const lines = ended.stderr.split("\n").filter((line) => line.includes("cannot be made"));
    expect(ended.status).toBe(1);
    expect(
      lines
        .map((line) =>
          line.replace(/ cannot be made: Failed to download .*can this one reach it\?$/, ""),
        )
        .toSorted(),
    ).toEqual(
      ALL.filter((target) => target !== OWN).map((target) => `dist/nbd-streaming-${target}`),
    );
  });

  test("lists what there is, and leaves nothing else", async () => {
    const made = [TARBALL, `nbd-streaming-${OWN}`];
    expect(readdirSync(dist).toSorted()).toEqual(["RELEASE.md", "SHA256SUMS", ...made].toSorted());
    const checked = await command(["sha256sum", "--strict", "-c", "SHA256SUMS"], { cwd: dist });
    expect(checked).toBe(made.map((name) => `${name}: OK\n`).join(""));
    expect(await command(["git", "status", "--porcelain"], { cwd: checkout })).toBe("");
  });

  test("makes the same bytes of the same commit in another folder", async () => {
    const other = join(folder.path, "a longer name", "clone");
    mkdirSync(join(other, ".."));
    await command(["git", "clone", "-q", checkout, other]);
    await command(["cp", "-al", join(checkout, "node_modules"), other]);
    // As somebody has them whose files are his own.
    await command(["chmod", "-R", "go=", other]);
    await release(other);
    const sums = (where: string) => readFileSync(join(where, "dist/SHA256SUMS"), "utf8");
    expect(sums(other)).toBe(sums(checkout));
  });

  test("is made of the packages that the lock file names", async () => {
    const name = join(checkout, "node_modules/citty/package.json");
    const before = readFileSync(name, "utf8");
    rmSync(name);
    writeFileSync(name, before.replace(/"version": ".*?"/, '"version": "0.0.1"'));
    const { status, stderr } = await release(checkout);
    expect(status).toBe(1);
    // The right one cannot be fetched here.
    expect(stderr).toMatch(/no release: .* failed: .*citty/);
    // Nothing is lost by the attempt.
    expect(existsSync(join(dist, TARBALL))).toBe(true);
  });

  test("refuses what is no commit", async () => {
    appendFileSync(join(checkout, "README.md"), "more\n");
    const { status, stderr } = await release(checkout);
    expect(status).toBe(1);
    expect(stderr).toContain("no release: files differ from the commit");
    // Nothing is lost by the attempt.
    expect(existsSync(join(dist, TARBALL))).toBe(true);
  });
});

describe("the page of a release", () => {
  const commit = { name: "0123456789ab", time: 0 };

  test("has every value, and the tables that were measured", () => {
    const page = releaseNotes(["a.deb", "b.rpm"], commit);
    expect(page).not.toContain("{{");
    expect(page).toContain("- `b.rpm`\n");
    expect(page).toMatch(/, with\nBun \d+\.\d+\.\d+, dpkg-deb .+, rpmbuild .+\.\n/);
    expect(page).toMatch(/^\| nbd-streaming +\| +\d+ \|/m);
    for (const row of ["`unix`", "`tls`"]) expect(page).toContain(`\n| ${row}`);
  });

  test("links to files of the project, on GitHub at the tag", () => {
    const links = (page: string) =>
      [...page.matchAll(/\]\((.*?)(?:#.*?)?\)/g)].map(([, link]) => link as string);
    const own = links(releaseNotes([], commit)).filter((link) => !link.startsWith("https:"));
    expect(own.length).toBeGreaterThan(2);
    expect(own.filter((link) => !existsSync(join(ROOT, link)))).toEqual([]);
    const place = {
      GITHUB_SERVER_URL: "https://github.example",
      GITHUB_REPOSITORY: "someone/something",
      GITHUB_REF_NAME: "v1.2.3",
    };
    const page = releaseNotes([], commit, place);
    expect(links(page)).toContain(
      "https://github.example/someone/something/blob/v1.2.3/docs/install.md",
    );
    expect(page).toContain("--repo someone/something");
  });

  test("has the changes of its version, and before that what is not released yet", () => {
    const changelog = (unreleased: string) =>
      `# C\n\n## [Unreleased]\n${unreleased}\n## [1.1.0] - 2026-01-01\n\n### Added\n\n- x\n`;
    expect(changesOf(changelog(""), "1.1.0")).toBe("### Added\n\n- x");
    // Between two releases, package.json has the version of the last one.
    expect(changesOf(changelog("\nnew\n"), "1.1.0")).toBe("new");
    expect(changesOf(changelog("\nnew\n"), "1.2.0")).toBe("new");
  });
});
