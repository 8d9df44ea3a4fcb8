/** What the program says, and does not say, of a stream that is held. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { nbdcopy } from "../support/client-commands.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { runProgram, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const HOLD = ["spool=.", "--hold"];

/** The lines of standard error, without the program's name. */
const linesOf = (stderr: string) =>
  stderr.split("\n").map((line) => line.replace(/^nbd-streaming: /, ""));

describe("with -v, a stream that is held", () => {
  test("tells where its spool is, when its clients are done, and when the reader is there", async () => {
    await using trial = await Trial.serve("command", { args: HOLD });
    const data = pseudoRandom(MiB);
    {
      using client = await trial.client();
      expect(await client.write(MiB, data)).toBe(0);
      expect(await client.write(0, data)).toBe(0);
      client.disconnect();
    }
    const { stderr } = await trial.completes(Buffer.concat([data, data]));
    const lines = linesOf(stderr);
    const places = [
      /^the spool is in \.: [\w ]+, \d+ bytes free$/,
      /^listening on /,
      /^client 1 connected$/,
      /^client 1 ended: disconnected$/,
      /^the clients are done: 2097152 bytes are streamed now$/,
      /^the reader is there$/,
      /^2097152 bytes .*: complete$/,
    ].map((pattern) => lines.findIndex((line) => pattern.test(line)));
    expect(places).not.toContain(-1);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  });

  test("tells the length that padding makes", async () => {
    const words = ["run", "pipe=/dev/null", "size=3M", "spool=/dev/shm", "--hold", "-v"];
    const { status, stderr } = await runProgram([...words, "--", "qemu-io -f raw -c quit $nbd"]);
    expect(status, stderr).toBe(0);
    expect(stderr).toContain(": the spool is in /dev/shm: tmpfs, ");
    expect(stderr).toContain(`: the clients are done: ${3 * MiB} bytes are streamed now\n`);
  });

  test("does not tell of a second phase that never begins", async () => {
    const words = ["run", "pipe=exec:touch started", ...HOLD, "-v", "--", "exit 3"];
    using folder = tempFolder();
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status).toBe(3);
    expect(stderr).toContain("the spool is in");
    expect(stderr).not.toContain("are streamed now");
  });
});

test("nobody is told to start a reader for a sink that is opened when the clients are done", async () => {
  using folder = tempFolder();
  const late = ["-e", "command", "pipe=exec:cat", "-e", "tcp", "pipe=tcp:127.0.0.1:1"];
  const words = ["serve", "-U", "s", ...HOLD, ...late, "-e", "fifo", "pipe=x"];
  await using program = startProgram(words, { cwd: folder.path });
  // The streams that come first would have told of it before.
  await program.saying(/: fifo: waiting for a reader of x: /);
  expect(program.stderr).not.toMatch(/(command|tcp): waiting/);
  program.process.kill("SIGTERM");
  expect((await program.ended()).status).toBe(143);
});

describe("a disk that begins like a compressed file", () => {
  /** Copies it, and returns the warnings. */
  async function warnings(...options: string[]): Promise<unknown> {
    using folder = tempFolder();
    const bytes = pseudoRandom(MiB);
    bytes.set([0x1f, 0x8b, 8]);
    const disk = folder.file("disk");
    writeFileSync(disk, bytes);
    const words = ["run", "pipe=exec:cat >/dev/null", "--summary=json", ...options];
    const { status, stderr } = await runProgram([...words, ...nbdcopy(disk)], { cwd: folder.path });
    expect(status, stderr).toBe(0);
    const lines = stderr.trimEnd().split("\n");
    const told = lines.slice(0, -1).length;
    const summary = JSON.parse(lines.at(-1) ?? "") as { warnings: string[] };
    expect(summary.warnings).toHaveLength(told);
    return told;
  }

  test("is a warning of a stream with a spool", async () => {
    expect(await warnings("spool=.")).toBe(1);
  });

  test("is none of a stream that is held, where a client may write any format", async () => {
    expect(await warnings(...HOLD)).toBe(0);
  });
});

test("a qcow2 that a client makes in a stream that is held causes no warning", async () => {
  using folder = tempFolder();
  const words = ["run", "pipe=exec:cat > out.qcow2", "size=8M", ...HOLD, "--no-pad"];
  const convert =
    'qemu-img create -q -f raw disk 1M && qemu-img convert -f raw -O qcow2 disk "$nbd"';
  const { status, stderr } = await runProgram([...words, "--", convert], { cwd: folder.path });
  expect(status, stderr).toBe(0);
  expect(linesOf(stderr)).toEqual([expect.stringMatching(/: complete$/), ""]);
});
