import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

test("the methods of a class that is kept from FTL are compiled by DFG at the most", async () => {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "no-ftl.child.ts")], {
    // Without the other thread, what is due is compiled before the program ends.
    env: { ...process.env, BUN_JSC_reportCompileTimes: "1", BUN_JSC_useConcurrentJIT: "0" },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, log] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const compiled = (compiler: string) =>
    [...(out + log).matchAll(new RegExp(`Optimized #?(\\w+)#.* using ${compiler} `, "g"))]
      .map(([, name]) => name as string)
      .filter((name) => /^(kept|free)/.test(name));
  expect(new Set(compiled("DFG"))).toEqual(
    new Set(["keptGetter", "keptPublic", "keptPrivate", "freePublic"]),
  );
  expect(new Set(compiled("FTL"))).toEqual(new Set(["freePublic"]));
});
