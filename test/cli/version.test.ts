import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { commitOf } from "../../src/cli/version.ts";
import { commitAll, copyCheckout, shown } from "../support/checkout.ts";
import { command, SOURCE, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const NO_GIT = Bun.which("git") === null;
const NO_CHECKOUT = "unknown: made of no git checkout";
let count = 0;

/** A folder with a file in it. */
function sources(): string {
  const path = folder.file(`sources-${++count}`);
  mkdirSync(path);
  writeFileSync(join(path, "source.ts"), "one");
  return path;
}

describe("the commit", () => {
  test.skipIf(NO_GIT)("is that of a git checkout", async () => {
    const path = sources();
    const commit = await commitAll(path);
    expect(commitOf(path)).toBe(shown(commit));
  });

  test.skipIf(NO_GIT)("is that of a worktree", async () => {
    const path = sources();
    const commit = await commitAll(path);
    await command(["git", "-C", path, "worktree", "add", "-q", "tree"]);
    expect(commitOf(join(path, "tree"))).toBe(shown(commit));
  });

  test.skipIf(NO_GIT)("says so if files differ from it", async () => {
    const path = sources();
    const commit = await commitAll(path);
    writeFileSync(join(path, "source.ts"), "two");
    expect(commitOf(path)).toBe(`${shown(commit)}-dirty`);
  });

  test.skipIf(NO_GIT)("is not that of a repository in which the folder merely is", async () => {
    const path = sources();
    await commitAll(path);
    mkdirSync(join(path, "inner"));
    expect(commitOf(join(path, "inner"))).toBe(NO_CHECKOUT);
  });

  test.skipIf(NO_GIT)("is git's, whatever a package has noted", async () => {
    const path = sources();
    const commit = await commitAll(path);
    writeFileSync(join(path, "COMMIT"), "0123456789ab\n");
    expect(commitOf(path)).toBe(shown(commit));
  });

  test.each(["0123456789ab", "0123456789ab-dirty"])("is what a package has noted: %s", (noted) => {
    const path = sources();
    writeFileSync(join(path, "COMMIT"), `${noted}\n`);
    expect(commitOf(path)).toBe(noted);
  });

  test.each(["", "main", "0123456789ab and more", "0123456789AB"])(
    "is unknown if %p is noted",
    (noted) => {
      const path = sources();
      writeFileSync(join(path, "COMMIT"), noted);
      expect(commitOf(path)).toBe(NO_CHECKOUT);
    },
  );

  test("is unknown without anything, and where there is no such folder", () => {
    expect(commitOf(sources())).toBe(NO_CHECKOUT);
    expect(commitOf(folder.file("missing"))).toBe(NO_CHECKOUT);
  });

  test.skipIf(NO_GIT)("is unknown in a repository that git cannot read, which is told", () => {
    const path = sources();
    mkdirSync(join(path, ".git"));
    expect(commitOf(path)).toBe("unknown: git could not tell");
  });
});

describe("--version", () => {
  const version = async (env: Record<string, string> = {}) => {
    await using program = start([...SOURCE, "--version"], { env });
    const { status, stdout, stderr } = await program.ended();
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  };

  test("says without git that there was none to ask", async () => {
    const checkout = folder.file("checkout");
    copyCheckout(checkout);
    mkdirSync(join(checkout, ".git"));
    const program = [process.execPath, join(checkout, "src/main.ts"), "--version"];
    expect(await command(program, { env: { PATH: "/nonexistent" } })).toBe(
      `nbd-streaming ${packageJson.version} (commit unknown: there was no git to ask)\n`,
    );
  });

  test("does not heed another repository's variables", async () => {
    const another = { GIT_DIR: "/nonexistent", GIT_INDEX_FILE: "/nonexistent", GIT_WORK_TREE: "/" };
    expect(await version(another)).toBe(await version());
  });
});
