import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { open } from "../../ffi/fd.ts";
import { O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import {
  type ChildState,
  exitState,
  reap,
  spawn,
  type SpawnOptions,
  stopState,
} from "../../ffi/spawn.ts";
import { LIMIT } from "../support/limit.ts";
import { command, eventually, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { Descriptors, thrownBy } from "./descriptors.ts";

setDefaultTimeout(LIMIT);

const ENV = { PATH: process.env["PATH"] };

/** Waits for a child. */
async function ended(pid: number): Promise<ChildState | "unknown"> {
  let end: ReturnType<typeof exitState>;
  await eventually(() => (end = exitState(pid)) !== undefined, "its end");
  return end as ChildState | "unknown";
}

/** Runs shell words to their end. @returns what they write */
async function output(words: string, options: Partial<SpawnOptions> = {}): Promise<string> {
  using folder = tempFolder();
  using fds = new Descriptors();
  await Bun.write(folder.file("out"), "");
  const out = fds.keep(open(folder.file("out"), O_WRONLY));
  const pid = spawn({
    file: "/bin/sh",
    argv: ["sh", "-c", words],
    env: ENV,
    stdio: ["null", out, "null"],
    place: "here",
    ...options,
  });
  await ended(pid);
  reap(pid);
  return readFileSync(folder.file("out"), "utf8");
}

test("words and variables arrive as they are, and no others", async () => {
  const env = { ...ENV, ONE: "zwölf Boxkämpfer\n", TWO: "", THREE: undefined };
  const argv = ["sh", "-c", 'printf "%s|" "$0" "$@" "$ONE" "${TWO-unset}" "${THREE-unset}"'];
  const words = ["a b", "", "ü$x'"];
  expect(await output("", { argv: [...argv, ...words], env })).toBe(
    "a b||ü$x'|zwölf Boxkämpfer\n||unset|",
  );
});

test("it has the descriptors that it is given, and not one that this program has inherited", async () => {
  const script = join(import.meta.dir, "spawn.child.ts");
  const line = 'exec 9>/dev/null; exec "$0" "$@"';
  const list = (...cmd: string[]) => command(["sh", "-c", line, ...cmd]);
  // ls opens the folder.
  expect((await list("ls", "/proc/self/fd")).trim().split("\n")).toEqual(["0", "1", "2", "3", "9"]);
  const listed = await list(process.execPath, script);
  expect(listed.trim().split("\n")).toEqual(["0", "1", "2", "3"]);
});

test("its standard descriptors wait, even if the runtime has made them non-blocking", async () => {
  const script = join(import.meta.dir, "spawn.child.ts");
  const words = "sed -n 's/^flags:[^0-9]*//p' /proc/self/fdinfo/1 /proc/self/fdinfo/2";
  await using running = start([process.execPath, script, words]);
  const { stdout } = await running.ended();
  const flags = stdout
    .trim()
    .split("\n")
    .map((octal) => Number.parseInt(octal, 8) & O_NONBLOCK);
  expect(flags).toEqual([0, 0]);
});

test.each([
  ["here", false, false],
  ["group", true, false],
  ["session", true, true],
] as const)("its place can be: %s", async (place, ownGroup, ownSession) => {
  const [pid, group, session] = (await output("cut -d' ' -f1,5,6 /proc/$$/stat", { place }))
    .trim()
    .split(" ");
  expect(group === pid).toBe(ownGroup);
  expect(session === pid).toBe(ownSession);
});

test("no signal is blocked, and those that the runtime ignores for itself are not ignored", async () => {
  const status = await output("exec grep '^Sig' /proc/self/status");
  const bits = (name: string) =>
    BigInt(`0x${new RegExp(`Sig${name}:\\s*(\\S+)`).exec(status)?.[1]}`);
  expect(bits("Blk")).toBe(0n);
  for (const signal of ["SIGPIPE", "SIGXFSZ"] as const) {
    expect(bits("Ign") & (1n << BigInt(constants.signals[signal] - 1))).toBe(0n);
  }
});

test.each([
  ["/no/such/program", "ENOENT"],
  ["/etc/passwd", "EACCES"],
])("%s cannot be executed: %s", (file, code) => {
  const attempt = () => spawn({ file, argv: ["x"], env: {}, stdio: [], place: "here" });
  expect(thrownBy(attempt)).toMatchObject({ code, syscall: "posix_spawn" });
});

test("a word with a NUL is refused, and not cut off", () => {
  const argv = ["sh", "-c", "exit\0 3"];
  const attempt = () => spawn({ file: "/bin/sh", argv, env: {}, stdio: [], place: "here" });
  expect(thrownBy(attempt)).toMatchObject({ code: "EINVAL" });
});

test("an end is told as often as it is asked for, until it is reaped", async () => {
  const start = (words: string) =>
    spawn({ file: "/bin/sh", argv: ["sh", "-c", words], env: ENV, stdio: [], place: "here" });
  const pid = start("exit 7");
  expect(await ended(pid)).toEqual({ state: "exited", value: 7 });
  expect(exitState(pid)).toEqual({ state: "exited", value: 7 });
  reap(pid);
  expect(exitState(pid)).toBe("unknown");

  const killed = start("kill -KILL $$");
  expect(await ended(killed)).toEqual({ state: "killed", value: 9 });
  reap(killed);

  const stopped = start("kill -STOP $$; exit 5");
  let stop: ReturnType<typeof stopState>;
  await eventually(() => (stop = stopState(stopped)) !== undefined, "it to stop");
  expect(stop).toEqual({ state: "stopped", value: constants.signals.SIGSTOP });
  expect(stopState(stopped)).toBeUndefined();
  expect(exitState(stopped)).toBeUndefined();
  process.kill(stopped, "SIGCONT");
  expect(await ended(stopped)).toEqual({ state: "exited", value: 5 });
  reap(stopped);
});
