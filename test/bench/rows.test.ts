/** The rows of the benchmark, and how a round of one is run. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { subjects } from "../../bench/programs/subjects.ts";
import { page } from "../../bench/report/page.ts";
import { rows } from "../../bench/rows/index.ts";
import { MIB, NBDCOPY, type Row, TCP_URI } from "../../bench/rows/row.ts";
import { allowedCores } from "../../bench/run/cores.ts";
import { BenchFiles } from "../../bench/run/files.ts";
import { shuffled } from "../../bench/run/order.ts";
import { LIMIT } from "../support/limit.ts";
import { type Ended, ROOT, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import type { RowCheck, Scripts } from "./rows.child.ts";

setDefaultTimeout(LIMIT);

const CHILD = join(import.meta.dir, "rows.child.ts");

function named(name: string): Row {
  const row = rows.find((each) => each.name === name);
  if (row === undefined) throw new Error(`there is no row ${name}`);
  return row;
}

test("the page of the benchmark has a line for every row", () => {
  const text = readFileSync(join(ROOT, "bench/README.md"), "utf8");
  const lines = text.split("\n").filter((line) => line.startsWith("| `"));
  const said = lines.flatMap((line) => line.split("|")[1]?.match(/[^`, ]+/g) ?? []);
  expect(rows.map(({ name }) => name).filter((name) => !said.includes(name))).toEqual([]);
});

test("rows have names of their own", () => {
  const names = rows.map(({ name }) => name);
  expect(names).toEqual([...new Set(names)]);
});

describe("a round", () => {
  test("has every program once, in an order that chance decides", () => {
    const programs = ["ours", "nbdkit", "cat", "limit"];
    expect(shuffled(programs, () => 0)).toEqual(programs);
    expect(shuffled(programs, () => 0.99)).toEqual(programs.toReversed());
    expect(shuffled(programs).toSorted()).toEqual(programs.toSorted());
  });

  test("begins with each of them", () => {
    const first = [0, 0.25, 0.5, 0.75].map((chance) => shuffled([1, 2, 3, 4], () => chance)[0]);
    expect(first).toEqual([1, 2, 3, 4]);
  });
});

const MISSING = ["qemu-img", "nbdcopy", "taskset"].filter((tool) => Bun.which(tool) === null);

/** Runs it in a process of its own, in a folder of its own. */
async function run(told: RowCheck | Scripts): Promise<Ended> {
  using folder = tempFolder();
  await using child = start([process.execPath, CHILD, folder.path, JSON.stringify(told)]);
  return await child.ended();
}

describe.skipIf(MISSING.length > 0)("ours", () => {
  const [core] = allowedCores();
  /** A client that fails unless it may run on that list of cores. */
  const only = (row: string): RowCheck => ({
    row,
    client: `grep -qx "Cpus_allowed_list:.${core}" /proc/self/status && ${named(row).client}`,
  });

  test.each(["1g", "one-core", "four", "tiny", "spool-order", "hold-qcow2", "tls", "tls-read"])(
    "streams what is right in the row %s",
    async (row) => expect(await run({ row })).toMatchObject({ status: 0, stderr: "" }),
  );

  test("fails a row whose stream is not right", async () => {
    const { status, stderr } = await run({ row: "1g", client: "true" });
    expect(status).toBe(1);
    expect(stderr).toContain("it failed with 4");
  });

  test("and its client share one core in the row one-core", async () => {
    expect(await run(only("one-core"))).toMatchObject({ status: 0, stderr: "" });
  });

  test.skipIf(allowedCores().length === 1)("has all cores in other rows", async () => {
    expect((await run(only("1g"))).stderr).toContain("it failed with 1");
  });

  test("refuses a client without TLS in the row tls", async () => {
    const client = `${NBDCOPY} "$IMAGE" ${TCP_URI}`;
    expect((await run({ row: "tls", client })).status).toBe(1);
  });
});

test("nbdkit is not beside ours by TLS if the one that was found cannot do that", async () => {
  using folder = tempFolder();
  const files = await BenchFiles.make(folder.path, 1);
  const peer = { nbdkit: "n", plugins: "p", filters: "f", plugin: "s", version: "1.24.1" };
  const columns = (name: string, tls: boolean) =>
    subjects(named(name), files, { ...peer, tls }).map(({ column }) => column);
  expect(columns("tls", false)).toEqual(["ours"]);
  expect(columns("tls-read", true)).toEqual(["ours", "nbdkit", "limit"]);
  expect(columns("1g", false)).toEqual(["ours", "nbdkit", "limit"]);
});

describe("streams at once", () => {
  test("run at the same time, each in a folder of its own", async () => {
    using place = tempFolder();
    // Each ends only when all of them are there.
    const script = `touch '${place.path}'/$$
      while [ "$(ls '${place.path}' | wc -l)" -lt 3 ]; do sleep 0.05; done
      echo x > "$1"`;
    const { status, stdout } = await run({ script, streams: 3 });
    expect([status, stdout.trim()]).toEqual([0, "x\nx\nx"]);
  });

  test("fail if one of them does, when all have ended", async () => {
    using place = tempFolder();
    const script = `exec 3> "$1"
      mkdir '${place.path}'/first && exit 7
      sleep 1
      # Nobody waits for it any more if the process that has started it is gone.
      kill -0 "$PPID" && touch '${place.path}'/done`;
    const { status, stderr } = await run({ script, streams: 2 });
    expect(status).toBe(1);
    expect(stderr).toContain("it failed with 7");
    expect(readdirSync(place.path).toSorted()).toEqual(["done", "first"]);
  });
});

test("the table of seconds says how many streams there were, and has more digits for short ones", () => {
  const run = (seconds: number) => ({ seconds, cpuSeconds: 1, serverCpuSeconds: 0.01 });
  const runs = { ours: [run(0.0441)], nbdkit: [run(2.5)] };
  const measured = [{ row: named("four"), bytes: 64 * MIB, facts: [], runs }];
  expect(page(measured, "plot.svg")).toMatch(
    /\| `four` +\| +4 × 64 MiB \| +1 \| 0\.044 \(.*?\) \| +2\.50 \(/,
  );
});
