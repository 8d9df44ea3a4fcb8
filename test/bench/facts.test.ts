/** What a page says that its figures were measured with. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commitFact } from "../../bench/report/commit.ts";
import { machine } from "../../bench/report/machine.ts";
import { allowedCores, coresIn } from "../../bench/run/cores.ts";
import { commitAll, shown } from "../support/checkout.ts";
import { LIMIT } from "../support/limit.ts";
import { command, ROOT } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

describe.skipIf(Bun.which("git") === null)("the commit", () => {
  async function checkout(path: string): Promise<string> {
    mkdirSync(join(path, "bench/results"), { recursive: true });
    mkdirSync(join(path, "src"));
    writeFileSync(join(path, "bench/results/latest.md"), "old");
    cpSync(join(ROOT, "src/main.ts"), join(path, "src/main.ts"));
    return `Commit ${shown(await commitAll(path))}`;
  }

  test("is named alone if only the results differ from it", async () => {
    using folder = tempFolder();
    const commit = await checkout(folder.path);
    expect(commitFact(folder.path)).toBe(commit);
    writeFileSync(folder.file("bench/results/latest.md"), "new");
    writeFileSync(folder.file("bench/results/more.md"), "new");
    expect(commitFact(folder.path)).toBe(commit);
  });

  test.each(["src/main.ts", "src/new.ts"])("has changes if %s differs", async (name) => {
    using folder = tempFolder();
    const commit = await checkout(folder.path);
    writeFileSync(folder.file(name), "// different");
    expect(commitFact(folder.path)).toBe(`${commit} and changes`);
  });

  test("is unknown where there is no checkout", () => {
    using folder = tempFolder();
    expect(commitFact(folder.path)).toStartWith("Commit unknown");
  });
});

describe("the cores", () => {
  test("are read as the kernel lists them", () => {
    expect(coresIn("0")).toEqual([0]);
    expect(coresIn("0-3,8,10-11")).toEqual([0, 1, 2, 3, 8, 10, 11]);
  });

  test("are those that the benchmark may use", async () => {
    const count = allowedCores().length;
    expect(await machine([])).toContain(`Ran on ${count === 1 ? "1 core" : `${count} cores`}`);
  });

  test.skipIf(Bun.which("taskset") === null)("are one where taskset leaves one", async () => {
    const [core] = allowedCores();
    const script = `import { machine } from ${JSON.stringify(join(ROOT, "bench/report/machine.ts"))};
      console.log((await machine([])).join("\\n"));`;
    const cmd = ["taskset", "-c", String(core), process.execPath, "-e", script];
    expect(await command(cmd)).toContain("\nRan on 1 core\n");
  });
});
