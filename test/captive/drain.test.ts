import { expect, setDefaultTimeout, test } from "bun:test";
import { O_RDWR } from "../../ffi/constants.ts";
import { close, open } from "../../ffi/fd.ts";
import { Survivors } from "../../src/captive/drain.ts";
import { SpoolPath } from "../../src/files/spool-path.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import { signalAll } from "../../src/process/proc.ts";
import { ProcessTree } from "../../src/process/process-tree.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** The tree of a shell that has ended; `using` ends what is left of it. */
async function orphans(script: string) {
  const tree = new ProcessTree("NBD_STREAMING_TEST", {
    cmd: ["/bin/sh", "-c", script],
    env: { PATH: process.env["PATH"] },
    stdio: ["null", "null", "null"],
  });
  await tree.child.exited;
  return {
    tree,
    survivors: new Survivors(tree),
    [Symbol.dispose]: () => signalAll(tree.members(), "SIGKILL"),
  };
}

test("nobody is left of a command that has waited for its processes", async () => {
  using left = await orphans("sleep 0 & wait");
  expect(left.survivors.list()).toEqual([]);
});

test("a process that lives on is told by name and number, until it has ended", async () => {
  using left = await orphans("exec setsid -f sleep 300");
  await eventually(() => /^sleep \(\d+\)$/.test(left.survivors.list().join()), "the process");
  const [pid] = left.tree.members();
  expect(left.survivors.list()).toEqual([`sleep (${pid})`]);
  process.kill(pid as number, "SIGKILL");
  await eventually(() => left.survivors.list().length === 0, "its end");
});

test("one that has taken the place of those that were known is found", async () => {
  using left = await orphans("{ sleep 0.2; setsid -f sleep 300; } & exit 0");
  expect(left.survivors.list().length).toBeGreaterThan(0);
  const last = () => left.survivors.list();
  // Until it has become `sleep`, it has another name.
  await eventually(
    () => last().length === 1 && (last()[0] ?? "").startsWith("sleep "),
    "the last one",
  );
  expect(last()).toEqual([`sleep (${left.tree.members()[0]})`]);
});

test("who has the disk open as a file is left, whoever that is", async () => {
  using folder = tempFolder();
  const { fd } = makeUnnamed(folder.path, false);
  using spool = new SpoolPath();
  spool.open(fd);
  const tree = new ProcessTree("NBD_STREAMING_TEST", {
    cmd: ["/bin/true"],
    env: {},
    stdio: ["null", "null", "null"],
  });
  await tree.child.exited;
  const survivors = new Survivors(tree, spool);
  expect(survivors.list()).toEqual([]);
  await using other = start(["sh", "-c", `exec 3<>${spool.path}; echo open >&2; exec sleep 300`]);
  await other.saying(/open/);
  await eventually(() => survivors.list().join() === `sleep (${other.process.pid})`, "its name");
  other.process.kill("SIGKILL");
  await eventually(() => survivors.list().length === 0, "its end");
  const own = open(spool.path as string, O_RDWR);
  expect(survivors.list()).toEqual(["a process that has $spool open"]);
  close(own);
  expect(survivors.list()).toEqual([]);
  close(fd);
});

test("where /proc does not tell, there is nobody", () => {
  const tree = {
    members() {
      throw new Error("ENOENT: no such file or directory, scandir '/proc'");
    },
  };
  expect(new Survivors(tree as unknown as ProcessTree).list()).toEqual([]);
});
