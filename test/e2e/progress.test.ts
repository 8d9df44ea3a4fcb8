/** Progress where there is no terminal: lines, JSON, percentages, and SIGUSR1. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import {
  answering,
  command,
  eventually,
  PROGRAM,
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
function objects(stderr: string): Record<string, number | string | null>[] {
  const lines = stderr.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as Record<string, number | string | null>);
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
      expect(Object.keys(one)).toEqual([
        "streamed",
        "data",
        "zeroes",
        "size",
        "elapsed",
        "spooled",
      ]);
      expect(one["streamed"]).toBe((one["data"] as number) + (one["zeroes"] as number));
      expect(one["size"]).toBe(SIZE);
    }
    expect(all.at(-1)).toMatchObject({ streamed: SIZE, data: 6 * MiB, zeroes: 2 * MiB });
    expect(new Set(all.map((one) => one["streamed"])).size).toBeGreaterThan(2);
  });

  /** Runs a command with a stream that is held, or has a spool, whose folder it is run in. */
  async function spooling(words: readonly string[], client: string) {
    using folder = tempFolder();
    const options = ["spool=.", "--progress=json", "--progress-interval=0.05", ...words];
    const all = ["run", "pipe=exec:cat >/dev/null", ...options, "--", client];
    const { status, stderr } = await runProgram(all, { cwd: folder.path });
    expect(status, stderr).toBe(0);
    return objects(stderr);
  }

  /** Shell words that write from the end to the start. */
  const BACKWARDS = ["4M", "2M", "0"]
    .map((at) => `qemu-io -f raw -c 'write -P 1 ${at} 2M' "$uri" >/dev/null && sleep 0.3`)
    .join(" && ");

  test("--progress=json has what is in the spool now", async () => {
    const all = await spooling(["window=64k"], BACKWARDS);
    const spooled = all.map((one) => one["spooled"] as number);
    expect(Math.max(...spooled)).toBeGreaterThan(3 * MiB);
    expect(spooled.at(-1)).toBe(0);
    for (const one of all) expect(one).not.toContainKey("phase");
    expect(all.at(-1)).toMatchObject({ streamed: 6 * MiB, size: null });
  });

  test("--progress=json has the phases of a stream that is held, and its length when that is known", async () => {
    const all = await spooling(["--hold"], BACKWARDS);
    const held = all.filter((one) => one["phase"] === "holding");
    expect(held.length).toBeGreaterThan(5);
    expect(all.slice(0, held.length)).toEqual(held);
    for (const one of held) expect(one).toMatchObject({ streamed: 0, size: null });
    const spooled = held.map((one) => one["spooled"] as number);
    expectGrowing(spooled);
    expect(spooled.at(-1)).toBeGreaterThanOrEqual(6 * MiB);
    const streamed = all.slice(held.length);
    expect(streamed.length).toBeGreaterThan(0);
    for (const one of streamed) expect(one).toMatchObject({ phase: "streaming", size: 6 * MiB });
    expect(streamed.at(-1)).toMatchObject({ streamed: 6 * MiB, spooled: 0 });
  });

  test.each([
    { padding: "--pad", length: SIZE },
    { padding: "--no-pad", length: 6 * MiB },
  ])("--progress=json has the length that size= and $padding make", async (is) => {
    const all = await spooling(["--hold", is.padding, `size=${SIZE}`], BACKWARDS);
    expect(all[0]).toMatchObject({ phase: "holding", size: SIZE });
    const end = { phase: "streaming", size: is.length, streamed: is.length };
    expect(all.at(-1)).toMatchObject(end);
  });

  test("--progress=json has a phase for those of several streams that are held", async () => {
    const clients = "for uri in $uri_a $uri_b; do nbdcopy -- '[' cat ']' $uri </dev/null; done";
    const streams = ["-e", "a", "spool=.", "--hold", "-e", "b", "size=1M"];
    using folder = tempFolder();
    const words = ["run", "pipe=exec:cat >/dev/null", "--progress=json", ...streams, "--", clients];
    const { stderr } = await runProgram(words, { cwd: folder.path });
    for (const one of objects(stderr)) {
      if (one["export"] === "a") expect(["holding", "streaming"]).toContain(one["phase"] as string);
      else expect(one).not.toContainKey("phase");
    }
    expect(new Set(objects(stderr).map((one) => one["export"]))).toEqual(new Set(["a", "b"]));
  });

  test("--progress is a line of what is held, and then of what is streamed", async () => {
    using folder = tempFolder();
    const sink = "pipe=exec:sleep 0.5; cat >/dev/null";
    const options = ["spool=.", "--hold", "size=6M", "--progress", "--progress-interval=0.1"];
    const words = ["run", sink, ...options, "--", BACKWARDS];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status).toBe(0);
    const lines = stderr.trimEnd().split("\n");
    expect(lines.at(-1)).toEndWith(": complete");
    const isHeld = (line: string) => line.startsWith("nbd-streaming: holding ");
    const held = lines.filter(isHeld);
    expect(lines.findLastIndex(isHeld)).toBe(held.length - 1);
    const figures = /^nbd-streaming: holding [\d.]+ [KM]?i?B, [\d.]+ \w+\/s, (\d:\d\d|\w[\w ]+)$/;
    for (const line of held) expect(line).toMatch(figures);
    const streamed = lines.slice(held.length, -1);
    expect(streamed.length).toBeGreaterThan(0);
    const whole = /^nbd-streaming: \d+%, [\d.]+ [KM]?i?B of 6\.00 MiB, [\d.]+ \w+\/s(, .*)?$/;
    for (const line of streamed) expect(line).toMatch(whole);
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
    // One at least in between: a busy machine may leave no time for more.
    expect(numbers.length).toBeGreaterThan(2);
  });

  test("does not give 100 for a stream that is truncated", async () => {
    const words = [...PROGRAM, "run", ...TO_NOBODY, "--progress-fd=3", "--", "false"];
    expect(await percentages(words)).toMatchObject({ status: 1, text: "0/100\n" });
  });

  test.each([
    ["of a known size", ["size=6M"]],
    ["whose size nobody knows", []],
  ])("of a stream %s that is held is 0 until something is streamed", async (_, size) => {
    const held = ["spool=.", "--hold", ...size, "--progress-fd=3", "--progress-interval=0.05"];
    const write = "qemu-io -f raw -c 'write 3M 3M' -c 'write 0 3M' $uri >/dev/null";
    const client = `${write}; sleep 0.3; cp percent held; cat held >&2`;
    const sink = "pipe=exec:head -c 2M >/dev/null; sleep 0.3; cat >/dev/null";
    const words = [...PROGRAM, "run", sink, ...held, "--", client];
    const { status, stderr, text } = await percentages(words);
    expect(status, stderr).toBe(0);
    expect(stderr.split("\n")[0]).toBe("0/100");
    const numbers = text.trimEnd().split("\n");
    expect(numbers[0]).toBe("0/100");
    expect(numbers.at(-1)).toBe("100/100");
    expect(numbers.length).toBeGreaterThan(2);
    expectGrowing(numbers.map((line) => Number.parseInt(line, 10)));
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

  test("tells whom a stream that is held waits for, in both phases", async () => {
    using folder = tempFolder();
    const words = ["serve", "pipe=x", "size=4M", "-U", "s", "spool=.", "--hold"];
    await using program = startProgram(words, { cwd: folder.path });
    await program.saying(/listening/);
    await answering(program, /: holding 0 B, 0 B\/s, waiting for a client$/m);
    using client = await RawClient.transmission(folder.file("s"));
    await answering(program, /: holding 0 B, 0 B\/s, nothing moves$/m);
    expect(await client.write(0, Buffer.alloc(4 * MiB, 1))).toBe(0);
    await answering(program, /: holding 4.00 MiB, .*, nothing moves$/m);
    client.disconnect();
    const none = "0%, 0 B of 4.00 MiB, 0 B/s, 4.00 MiB spooled";
    await answering(program, new RegExp(`: ${none}, waiting for a reader$`, "m"));
    const line = "exec 3<x; until [ -e gate ]; do sleep 0.02; done; cat <&3 >/dev/null";
    await using reader = start(["sh", "-c", line], { cwd: folder.path, group: true });
    await answering(
      program,
      /%, [\d.]+ [KM]iB of 4.00 MiB, .*, 4.00 MiB spooled, reader is slow$/m,
    );
    writeFileSync(folder.file("gate"), "");
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
