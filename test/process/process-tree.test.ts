import { afterAll, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { close } from "../../ffi/fd.ts";
import { pipe } from "../../ffi/pipe.ts";
import { signalAll, statOf } from "../../src/process/proc.ts";
import { ProcessTree } from "../../src/process/process-tree.ts";
import { LIMIT } from "../support/limit.ts";
import { command, eventually, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const NAME = "NBD_STREAMING_TEST";

/** A tree of a shell that reads a pipe; `using` ends what there is of it. */
function startTree(
  script: string,
  options: { env?: Record<string, string>; group?: boolean } = {},
) {
  const ends = pipe();
  const cmd = ["/bin/sh", "-c", script];
  const env = { PATH: process.env["PATH"], ...options.env };
  const tree = new ProcessTree(NAME, {
    cmd,
    env,
    stdio: [ends.read, "null", "null"],
    pipe: ends.read,
    group: options.group === true,
  });
  close(ends.read);
  return {
    tree,
    [Symbol.dispose]() {
      signalAll(tree.members(), "SIGKILL");
      close(ends.write);
    },
  };
}

/** A process id that a script writes. */
async function pidIn(file: string): Promise<number> {
  await eventually(() => existsSync(file) && /^\d+\n$/.test(readFileSync(file, "utf8")), "an id");
  return Number(readFileSync(file, "utf8"));
}

/** Its orphan has neither a parent of the tree nor its environment, but children. */
const ORPHAN = (pid: string) =>
  `exec 3<&0; env -i setsid /bin/sh -c 'echo $$ > ${pid}; /bin/cat <&3 | /bin/cat' &`;

test("an orphan without an environment is found by the pipe that it reads, with what is below it", async () => {
  const pid = folder.file("orphan");
  using started = startTree(`${ORPHAN(pid)} exit 0`);
  const { tree } = started;
  const orphan = await pidIn(pid);
  await tree.child.exited;
  await eventually(() => tree.members().length === 3, "the shell and both cats");
  expect(tree.members()).toContain(orphan);
  signalAll(tree.members(), "SIGKILL");
  await eventually(() => tree.members().length === 0, "their end");
});

test("a process that had the pipe before the command does not belong to the tree", async () => {
  const ends = pipe();
  const older = Bun.spawn(["sleep", "60"], { stdio: [ends.read, "ignore", "ignore"] });
  try {
    // The kernel tells times in hundredths of a second.
    await Bun.sleep(50);
    const cmd = ["sleep", "61"];
    const tree = new ProcessTree(NAME, {
      cmd,
      env: process.env,
      stdio: [ends.read, "null", "null"],
      pipe: ends.read,
    });
    close(ends.read);
    try {
      expect(tree.members()).toEqual([tree.child.pid]);
    } finally {
      tree.child.kill("SIGKILL");
      await tree.child.exited;
    }
    expect(tree.members()).toEqual([]);
  } finally {
    older.kill("SIGKILL");
    await older.exited;
    close(ends.write);
  }
});

test("a tree in a tree belongs to both", async () => {
  using outer = startTree("sleep 60");
  const environment = () => readFileSync(`/proc/${outer.tree.child.pid}/environ`, "utf8");
  const entry = () =>
    environment()
      .split("\0")
      .find((one) => one.startsWith(`${NAME}=`));
  // It is empty for a moment while the program is put in place of the shell.
  await eventually(() => entry() !== undefined, "the outer one");
  const mark = entry() ?? "";
  // Its parent is not of the outer tree, as when the program between them is gone.
  using inner = startTree("sleep 60 & wait", { env: { [NAME]: mark.slice(NAME.length + 1) } });
  await eventually(() => inner.tree.members().length === 2, "the inner one");
  const both = () => inner.tree.members().every((pid) => outer.tree.members().includes(pid));
  await eventually(both, "the inner one to be in the outer one");
  expect(inner.tree.members()).not.toContain(outer.tree.child.pid);
});

test("what is in the group of the command belongs to it, whatever else is known about it", async () => {
  const pid = folder.file("member");
  // Neither a child any more, nor with the mark, nor reading the pipe.
  const orphan = `env -i /bin/sh -c 'echo $$ > ${pid}; exec /bin/sleep 60' < /dev/null &`;
  using started = startTree(`${orphan} exit 0`, { group: true });
  const { tree } = started;
  const member = await pidIn(pid);
  await tree.child.exited;
  expect(tree.members()).toEqual([member]);
  tree.kill();
  expect(await tree.waitForExit(5000)).toBe(true);
  tree.release();
  expect(tree.members()).toEqual([]);
});

test("a tree is killed without descriptors, too", async () => {
  const script = join(import.meta.dir, "no-descriptors.child.ts");
  const line = 'ulimit -n 64; exec "$0" "$1"';
  const { signal, left } = JSON.parse(
    await command(["sh", "-c", line, process.execPath, script]),
  ) as { signal: string; left: number };
  expect({ signal, left }).toEqual({ signal: "SIGKILL", left: 0 });
});

test("parents come before their children, so that none gets a signal after the end that it waits for", async () => {
  using started = startTree("sh -c 'sleep 60 & wait' & wait");
  const { tree } = started;
  await eventually(() => tree.members().length === 3, "three processes");
  const members = tree.members();
  const parents = members.map((pid) => Number(statOf(pid)?.[1]));
  expect(parents.slice(1)).toEqual(members.slice(0, -1));
});

test("nobody in a pipeline sees the death of another one", async () => {
  const marker = folder.file("seen");
  using started = startTree(`cat | cat | { cat; echo seen > ${marker}; }`, { group: true });
  const { tree } = started;
  await eventually(() => tree.members().length === 5, "five processes");
  tree.kill();
  expect(await tree.waitForExit(5000)).toBe(true);
  expect(existsSync(marker)).toBe(false);
  tree.release();
});

test("an orphan without an environment is found by a file that only the command opens", async () => {
  const file = folder.file("opened");
  const older = folder.file("older");
  writeFileSync(file, "");
  await using service = start(["sh", "-c", `exec 3< ${file}; echo $$ > ${older}; exec sleep 300`]);
  await pidIn(older);
  // A process is known by when it started, in clock ticks.
  await Bun.sleep(50);
  const pid = folder.file("opener");
  const tree = new ProcessTree(NAME, {
    cmd: [
      "/bin/sh",
      "-c",
      `env -i setsid /bin/sh -c 'exec 3>>${file}; echo $$ > ${pid}; exec /bin/sleep 300' &`,
    ],
    env: { PATH: process.env["PATH"] },
    stdio: ["null", "null", "null"],
    files: [file],
  });
  const orphan = await pidIn(pid);
  await tree.child.exited;
  expect(tree.members()).toEqual([orphan]);
  tree.kill();
  await eventually(() => tree.members().length === 0, "its end");
  expect(service.process.exitCode).toBeNull();
});

test("what stops the command right after it was continued is not lost", async () => {
  using started = startTree("exec cat", { group: true });
  const { tree } = started;
  const { pid } = tree.child;
  const isStopped = () => statOf(pid)?.[0] === "T";
  process.kill(pid, "SIGSTOP");
  await eventually(isStopped, "the command to stop");
  const kill = process.kill.bind(process);
  {
    using _ = spyOn(process, "kill").mockImplementation((to, signal) => {
      kill(to, signal);
      // As Ctrl-Z does, which nobody can ignore here.
      if (to === -pid && signal === "SIGCONT") kill(pid, "SIGSTOP");
      return true;
    });
    tree.resume();
  }
  await eventually(isStopped, "the command to stop again");
});
