/** Progress where there is no terminal: lines, JSON, percentages, and SIGUSR1. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import {
  command,
  eventually,
  PROGRAM,
  type Running,
  runProgram,
  start,
  startProgram,
} from "../support/program.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeWrite } from "../support/wire.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const SIZE = 8 * MiB;

/** A copy in three steps, with time for a few lines in between; 6 MiB of data, 2 MiB of zeroes. */
const STEPS = [
  "sh",
  "-c",
  ["2M 1M", "3M 2M", "5M 3M"]
    .map((part) => `qemu-io -f raw -c 'write -P 1 ${part}' "$uri" >/dev/null; sleep 0.3`)
    .join("; "),
];

const TO_NOBODY = ["pipe=exec:cat >/dev/null", `size=${SIZE}`];

function run(...options: string[]) {
  return runProgram(["run", ...TO_NOBODY, ...options, "--", ...STEPS]);
}

/** The lines that are JSON; all others are messages. */
function objects(stderr: string): Record<string, number | null>[] {
  const lines = stderr.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as Record<string, number | null>);
}

function expectGrowing(values: readonly number[]): void {
  expect(values).toEqual(values.toSorted((a, b) => a - b));
}

describe("without a terminal", () => {
  test("nothing is shown unless it is asked for", async () => {
    const { status, stderr } = await run();
    expect(status).toBe(0);
    expect(stderr).toMatch(/^nbd-streaming: 8388608 bytes .*: complete\n$/);
  });

  test("--progress is a line for each interval", async () => {
    const { status, stderr } = await run("--progress", "--progress-interval=0.1");
    expect(status).toBe(0);
    const lines = stderr.trimEnd().split("\n");
    expect(lines.at(-1)).toEndWith(": complete");
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines.slice(0, -1)) {
      expect(line).toMatch(
        /^nbd-streaming: \d+%, [\d.]+ [KM]?i?B of 8\.00 MiB, [\d.]+ \w+\/s(, .*)?$/,
      );
    }
  });

  test("--progress=json is an object for each interval, and ends with the total", async () => {
    const { status, stderr, stdout } = await run("--progress=json", "--progress-interval=0.05");
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
    const all = objects(stderr);
    expect(all.length).toBeGreaterThan(5);
    for (const key of ["streamed", "data", "zeroes", "elapsed"]) {
      expectGrowing(all.map((one) => one[key] as number));
    }
    for (const one of all) {
      expect(Object.keys(one)).toEqual(["streamed", "data", "zeroes", "size", "elapsed"]);
      expect(one["streamed"]).toBe((one["data"] as number) + (one["zeroes"] as number));
      expect(one["size"]).toBe(SIZE);
    }
    expect(all.at(-1)).toMatchObject({ streamed: SIZE, data: 6 * MiB, zeroes: 2 * MiB });
    expect(new Set(all.map((one) => one["streamed"])).size).toBeGreaterThan(2);
  });

  test("--progress=json has no size where it is not known, in the other direction too", async () => {
    using folder = tempFolder();
    const source = "read=exec:head -c 300000 /dev/urandom";
    const words = ["run", source, "--progress=json", "--", "true"];
    const { stderr } = await runProgram(words, { cwd: folder.path });
    expect(objects(stderr).at(-1)).toMatchObject({ streamed: 0, size: null });
  });

  test("--progress=json tells how far a stream that is read has come", async () => {
    using folder = tempFolder();
    const words = ["read=exec:head -c 8M /dev/urandom", "size=8M", "--progress=json", "copy.raw"];
    const { status, stderr } = await runProgram(["run", ...words], { cwd: folder.path });
    expect(status, stderr).toBe(0);
    expect(objects(stderr).at(-1)).toMatchObject({ streamed: SIZE, data: SIZE, zeroes: 0 });
  });

  test("--quiet says nothing but errors", async () => {
    expect(await run("--quiet")).toEqual({ status: 0, stdout: "", stderr: "" });
    const args = ["run", ...TO_NOBODY, "-q", "--", "false"];
    const { status, stderr } = await runProgram(args);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^nbd-streaming: error: .*\n$/);
  });

  test("a reader of the lines that takes none of them holds up nothing", async () => {
    using folder = tempFolder();
    // Far more lines than a pipe has room for, if they were written all the same.
    const reader = "{ until [ -e done ]; do sleep 0.02; done; cat; }";
    const line = `{ "$@" 2>&1; touch done; } | ${reader}`;
    const words = ["run", ...TO_NOBODY, "--progress=json", "--progress-interval=0.001"];
    const cmd = ["sh", "-c", line, "sh", ...PROGRAM, ...words, "--", ...STEPS];
    expect(await command(cmd, { cwd: folder.path })).toContain(": complete\n");
  });
});

describe("--progress-fd", () => {
  /** What the program writes to descriptor 3. */
  async function percentages(words: readonly string[]) {
    using folder = tempFolder();
    const cmd = ["sh", "-c", 'exec "$@" 3>percent', "sh", ...words];
    await using program = start(cmd, { cwd: folder.path });
    const { status, stderr } = await program.ended();
    return { status, stderr, text: readFileSync(folder.file("percent"), "latin1") };
  }

  test("gives lines as nbdcopy --progress=FD does, each percentage once, and 100 at the end", async () => {
    const options = ["--progress-fd=3", "--progress-interval=0.05", "--no-progress"];
    const words = [...PROGRAM, "run", ...TO_NOBODY, ...options, "--", ...STEPS];
    const ours = await percentages(words);
    expect(ours.status, ours.stderr).toBe(0);
    const script = "nbdcopy --progress=3 -- [ nbdkit null 8M ] null:";
    const theirs =
      Bun.which("nbdkit") === null ? ours.text : (await percentages(["sh", "-c", script])).text;
    for (const text of [ours.text, theirs]) {
      expect(text).toMatch(/^(\d+\/100\n)*100\/100\n$/);
    }
    const numbers = ours.text
      .trimEnd()
      .split("\n")
      .map((line) => Number.parseInt(line, 10));
    expectGrowing(numbers);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(numbers[0]).toBe(0);
    expect(numbers.length).toBeGreaterThan(3);
  });

  test("does not give 100 for a stream that is truncated", async () => {
    const words = [...PROGRAM, "run", ...TO_NOBODY, "--progress-fd=3", "--", "false"];
    expect(await percentages(words)).toMatchObject({ status: 1, text: "0/100\n" });
  });

  test("goes with --progress", async () => {
    const options = ["--progress-fd=3", "--progress=json"];
    const words = [...PROGRAM, "run", ...TO_NOBODY, ...options, "--", ...STEPS];
    const { stderr, text } = await percentages(words);
    expect(text).toEndWith("100/100\n");
    expect(objects(stderr).at(-1)).toMatchObject({ streamed: SIZE });
  });
});

describe("SIGUSR1", () => {
  /** Asks until the answer is as it should be. */
  async function answering(program: Running, pattern: RegExp): Promise<void> {
    const timer = setInterval(() => program.process.kill("SIGUSR1"), 100);
    try {
      await program.saying(pattern);
    } finally {
      clearInterval(timer);
    }
  }

  test.each([[[]], [["--quiet"]], [["--no-progress"]], [["--progress"]]])(
    "prints a line at any time, with %p",
    async (options) => {
      using folder = tempFolder();
      const words = ["serve", "pipe=x", "size=8M", "-U", "s", "-P", "pid", ...options];
      await using program = startProgram(words, { cwd: folder.path });
      await eventually(() => existsSync(folder.file("pid")), "the program to be there");
      await answering(
        program,
        /^nbd-streaming: 0%, 0 B of 8.00 MiB, 0 B\/s, waiting for a reader$/m,
      );
      program.process.kill("SIGTERM");
      expect((await program.ended()).status).toBe(143);
    },
  );

  test("tells whom a stream that is written waits for", async () => {
    using folder = tempFolder();
    const words = ["serve", "pipe=x", "size=4M", "-U", "s"];
    await using program = startProgram(words, { cwd: folder.path });
    await program.saying(/listening/);
    await answering(program, /waiting for a reader$/m);
    const line = "exec 3<x; until [ -e gate ]; do sleep 0.02; done; cat <&3 >/dev/null";
    await using reader = start(["sh", "-c", line], { cwd: folder.path, group: true });
    await answering(program, /waiting for a client$/m);
    using client = await RawClient.transmission(folder.file("s"));
    await answering(program, /nothing moves$/m);
    client.send(encodeWrite(0, Buffer.alloc(4 * MiB, 1)));
    await answering(program, /, [\d.]+ [KM]iB of 4.00 MiB, .*, reader is slow$/m);
    writeFileSync(folder.file("gate"), "");
    expect((await client.reply()).error).toBe(0);
    client.disconnect();
    expect((await program.ended()).status).toBe(0);
    expect((await reader.ended()).status).toBe(0);
  });

  test("tells whom a stream that is read waits for", async () => {
    using folder = tempFolder();
    const words = ["serve", "read=x", "size=4M", "-U", "s"];
    await using program = startProgram(words, { cwd: folder.path });
    await program.saying(/listening/);
    await answering(program, /waiting for a writer$/m);
    const line = "exec 3>x; until [ -e gate ]; do sleep 0.02; done; head -c 4M /dev/zero >&3";
    await using writer = start(["sh", "-c", line], { cwd: folder.path, group: true });
    await answering(program, /waiting for a client$/m);
    using client = await RawClient.transmission(folder.file("s"));
    await answering(program, /nothing moves$/m);
    const answer = client.read(0, 4 * MiB);
    await answering(program, /writer is slow$/m);
    writeFileSync(folder.file("gate"), "");
    expect(await answer).toEqual(Buffer.alloc(4 * MiB));
    client.disconnect();
    expect((await program.ended()).status).toBe(0);
    expect((await writer.ended()).status).toBe(0);
  });
});
