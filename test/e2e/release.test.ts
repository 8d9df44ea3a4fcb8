/** The binaries of a release, as far as they can be made without a registry. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyCheckout } from "../support/checkout.ts";
import { command, type Ended, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const checkout = folder.file("checkout");
const dist = join(checkout, "dist");

/** A Bun that runs on glibc says on which. */
const { header } = process.report.getReport() as { header: object };
const OWN = `linux-${process.arch}${"glibcVersionRuntime" in header ? "" : "-musl"}`;
const ALL = ["linux-arm64", "linux-arm64-musl", "linux-x64", "linux-x64-musl"];

describe("bun run build:all without a registry", () => {
  let ended: Ended;

  beforeAll(async () => {
    copyCheckout(checkout);
    mkdirSync(dist);
    // Of an earlier release, and not to be taken for one of this.
    for (const target of ALL) writeFileSync(join(dist, `nbd-streaming-${target}`), "");
    writeFileSync(join(dist, "SHA256SUMS"), "");
    const nowhere = "http://127.0.0.1:1/";
    const env = {
      ...{ https_proxy: nowhere, HTTPS_PROXY: nowhere, no_proxy: undefined, NO_PROXY: undefined },
      // What an earlier build has fetched is not to be found.
      BUN_INSTALL_CACHE_DIR: folder.file("cache"),
    };
    await using building = start([process.execPath, "run", "build:all"], { cwd: checkout, env });
    ended = await building.ended();
  });

  test("makes the binary of this machine, which works", async () => {
    const binary = join(dist, `nbd-streaming-${OWN}`);
    expect(await command([binary, "--version"])).toEndWith(
      "(commit unknown: made of no git checkout)\n",
    );
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
    expect(readdirSync(dist).toSorted()).toEqual(["SHA256SUMS", `nbd-streaming-${OWN}`]);
    const checked = await command(["sha256sum", "--strict", "-c", "SHA256SUMS"], { cwd: dist });
    expect(checked).toBe(`nbd-streaming-${OWN}: OK\n`);
  });
});
