import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { close } from "../../ffi/fd.ts";
import { pipe } from "../../ffi/pipe.ts";
import { ProcessTree } from "../../src/process/process-tree.ts";
import { Watchdog } from "../../src/process/watchdog.ts";
import { LIMIT } from "../support/limit.ts";
import { bounded, command, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const NAME = "NBD_STREAMING_TEST";

test("a command that is watched is the same as without", async () => {
  using folder = tempFolder();
  const ends = pipe();
  const watchdog = new Watchdog(ends.write);
  const words = `printf '%s|' "$0" "$#"; tr '\\0' '|' < /proc/$$/cmdline; ls /proc/self/fd`;
  const shell = `{ ${words}; } > ${folder.file("told")}`;
  const tree = new ProcessTree(NAME, {
    ...watchdog.watch(shell, [ends.read, 1, 2]),
    env: process.env,
    group: true,
  });
  await bounded(tree.child.exited, "its end");
  const told = readFileSync(folder.file("told"), "utf8");
  expect(told).toBe(`/bin/sh|0|/bin/sh|-c|${shell}|0\n1\n2\n3\n`);
  watchdog.release();
  tree.release();
  for (const fd of [ends.read, ends.write]) close(fd);
});

test("it holds the pipe until it is released, and no longer", async () => {
  using folder = tempFolder();
  const ends = pipe();
  const watchdog = new Watchdog(ends.write);
  const done = folder.file("done");
  const tree = new ProcessTree(NAME, {
    ...watchdog.watch(`cat; echo done > ${done}`, [ends.read, 1, 2]),
    env: process.env,
    group: true,
  });
  close(ends.read);
  close(ends.write);
  await eventually(() => tree.members().length === 2, "both processes");
  // Time to see the end of the pipe, if that were to be seen.
  await Bun.sleep(100);
  expect(existsSync(done)).toBe(false);
  watchdog.release();
  await bounded(tree.child.exited, "its end");
  expect(tree.child.exitCode).toBe(0);
  expect(existsSync(done)).toBe(true);
  watchdog.release();
  tree.release();
});

test("a command that begins only when it has been released is as any other", async () => {
  using folder = tempFolder();
  const told = folder.file("told");
  const commanded = async (isLate: boolean) => {
    const ends = pipe();
    const watchdog = new Watchdog(ends.write);
    const words = `{ cat; grep SigIgn /proc/self/status; } > ${told} 2>&1`;
    const { cmd, stdio } = watchdog.watch(words, [ends.read, 1, 2]);
    // Stops before it tells its process group.
    const late = ["/bin/sh", "-c", 'kill -s STOP $$; exec "$@"', "/bin/sh", ...cmd];
    const tree = new ProcessTree(NAME, { cmd: late, stdio, env: process.env, group: true });
    const { child } = tree;
    const state = () => readFileSync(`/proc/${child.pid}/status`, "latin1");
    await eventually(() => /^State:\s*T/m.test(state()), "the stop");
    close(ends.read);
    close(ends.write);
    if (isLate) watchdog.release();
    process.kill(child.pid, "SIGCONT");
    if (!isLate) await eventually(() => existsSync(told), "the command");
    watchdog.release();
    await bounded(child.exited, "its end");
    tree.release();
    return { status: child.exitCode, signal: child.signalCode, told: readFileSync(told, "utf8") };
  };
  const usual = await commanded(false);
  expect(usual).toMatchObject({ status: 0, told: expect.stringMatching(/^SigIgn:.*\n$/) });
  rmSync(told);
  expect(await commanded(true)).toEqual(usual);
});

test.each(["before the command", "when it has just been started", "while it reads"])(
  "nothing is left of it and the command when we are killed %s",
  async (when) => {
    using folder = tempFolder();
    const script = join(import.meta.dir, "watchdog.child.ts");
    const line = `"$0" "$@" & wait $!; cat`;
    // A process that has our standard output or error would keep this waiting.
    const words = ["sh", "-c", line, process.execPath, script, when, folder.file("done")];
    await command(words);
    const [watchdog = 0, commandPid = 0] = readFileSync(folder.file("done.pids"), "utf8")
      .split(" ")
      .map(Number);
    const alive = (pid: number) => {
      if (pid === 0 || !existsSync(`/proc/${pid}`)) return false;
      return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
    };
    await eventually(() => !alive(watchdog) && !alive(commandPid), "their end");
    expect(existsSync(folder.file("done"))).toBe(false);
  },
);
