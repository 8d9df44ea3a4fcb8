/** System calls that fail while processes are started, watched and ended: no false success, and nothing left. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { LIMIT } from "../support/limit.ts";
import { PROGRAM, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const noStrace = Bun.which("strace") === null || Bun.which("nbdcopy") === null;

interface Run {
  readonly status: number;
  readonly stderr: string;
  readonly committed: boolean;
}

/** Runs a stream with a fault that strace(1) injects into the program and all that it starts. */
async function runWith(fault: string, captive: string): Promise<Run> {
  using folder = tempFolder();
  writeFileSync(folder.file("disk"), Buffer.alloc(65536, 7));
  const [call] = fault.split(":");
  const trace = ["-f", "-qq", "-o", "/dev/null", "-e", `trace=${call}`, "-e", `inject=${fault}`];
  const words = ["run", "pipe=exec:cat > part; echo whole > done", "size=64k", "--", captive];
  await using running = start(["strace", ...trace, ...PROGRAM, ...words], { cwd: folder.path });
  // strace ends with the last process that it follows.
  const { status, stderr } = await running.ended();
  expect(stderr).not.toContain("    at ");
  return { status, stderr, committed: existsSync(folder.file("done")) };
}

describe.skipIf(noStrace)("(needs strace, nbdcopy)", () => {
  test.each(["setpgid:error=EPERM", "setsid:error=EPERM"])(
    "where a process cannot have its place, nothing begins (%s)",
    async (fault) => {
      const { status, stderr, committed } = await runWith(fault, "exit 0");
      expect(stderr).toMatch(/pipe=exec:.* cannot be used: it cannot be started: posix_spawn/);
      expect({ status, committed }).toEqual({ status: 3, committed: false });
    },
  );

  test.each(["waitid:error=EINVAL", "waitid:error=ECHILD"])(
    "a command of whose end nothing can be known has not succeeded (%s)",
    async (fault) => {
      const { status } = await runWith(fault, 'nbdcopy disk "$uri"');
      expect(status).not.toBe(0);
    },
  );

  test.each([1, 2, 3, 4, 5, 6])(
    "one signal that cannot be sent lets no command commit (the %d. call of kill)",
    async (n) => {
      const fault = `kill:error=EPERM:when=${n}`;
      expect(await runWith(fault, "exit 3")).toMatchObject({ status: 3, committed: false });
    },
  );

  test("a good stream ends well, and keeps nobody waiting, without a signal that can be sent", async () => {
    const { status, stderr, committed } = await runWith("kill:error=EPERM", 'nbdcopy disk "$uri"');
    expect(stderr).toMatch(/: complete\n$/);
    expect({ status, committed }).toEqual({ status: 0, committed: true });
  });
});
