/** What a start is compared with. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { startPage } from "../../bench/report/start.ts";
import { MIB } from "../../bench/rows/row.ts";
import { LIMIT } from "../support/limit.ts";
import { command, ROOT } from "../support/program.ts";

setDefaultTimeout(LIMIT);

const EMPTY = join(ROOT, "bench/empty/main.ts");

describe("the empty program", () => {
  test("ends when its worker has answered", async () => {
    expect(await command([process.execPath, EMPTY])).toBe("");
  });

  test("stays to be looked at", async () => {
    const child = Bun.spawn([process.execPath, EMPTY, "--stay"], { stdout: "pipe" });
    const { value } = await child.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("the worker has answered\n");
    await Bun.sleep(200);
    expect(child.exitCode).toBeNull();
    child.kill();
    expect(await child.exited).not.toBe(0);
  });
});

describe("the page", () => {
  const start = (ms: number, mib: number) => ({ ms, peakBytes: mib * MIB });
  const starts = {
    compiled: [start(12, 45), start(26, 45)],
    package: [start(24, 50), start(39, 50)],
    empty: [start(10, 30), start(20, 36)],
  };

  test("takes ratios within a round, and says which goals are met", () => {
    const text = startPage(starts, ["Ran on 2 cores"]);
    const line = (name: string) => text.split("\n").find((each) => each.startsWith(`| ${name}`));
    expect(line("time, ours, compiled / empty program")).toContain(
      "**1.25** (1.20 to 1.30), goal 1.40 met",
    );
    expect(line("time, ours, npm package / ours, compiled")).toContain(
      "**1.75** (1.50 to 2.00), goal 1.50 missed",
    );
    expect(line("memory, ours, compiled / empty program")).toContain("**1.38**");
    expect(line("ours, compiled ")).toContain("| 19.0 (12.0 to 26.0) |");
    expect(text).toContain("Medians of 2 rounds");
    expect(text).toEndWith("- Ran on 2 cores\n");
  });

  test("has a goal without a ratio for a program that was not there", () => {
    const { package: _, ...rest } = starts;
    expect(startPage(rest, [])).toMatch(/\| time, ours, npm package.*\| +-, goal 1\.50 \|/);
  });
});
