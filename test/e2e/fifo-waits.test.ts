/** Who waits in open(2) for a stream that comes to nothing is let go, with an empty stream. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import type { Direction } from "../../src/endpoint/spec.ts";
import { run, serve, type Streaming } from "../../src/index.ts";
import { pipeUsers } from "../../src/process/pipe-users.ts";
import { descendants } from "../../src/process/proc.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually, runProgram, start, startProgram } from "../support/program.ts";
import { startShell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";
import { waitingAt } from "../support/waiting.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let fifos = 0;
/** A FIFO that nobody has open. */
function freshFifo(): string {
  const fifo = folder.file(`${fifos++}.fifo`);
  mkfifo(fifo, 0o600);
  return fifo;
}

const KEYS = { write: "pipe", read: "read" } as const;
const DIRECTIONS = ["write", "read"] as const;

interface Early {
  readonly what: string;
  readonly status: number;
  /** @param target `pipe=FIFO` or `read=FIFO` */
  readonly words: (target: string) => readonly string[];
  readonly only?: Direction;
}

const nowhere = folder.file("nowhere/there");

const EARLY: readonly Early[] = [
  { what: "no command of ours", status: 2, words: (target) => [target] },
  { what: "an unknown command", status: 2, words: (target) => ["stream", target] },
  { what: "an unknown option", status: 2, words: (target) => ["serve", target, "--bogus"] },
  { what: "an option without its value", status: 2, words: (target) => ["serve", target, "-U"] },
  { what: "a bad option", status: 2, words: (target) => ["serve", target, "-p", "http"] },
  { what: "a bad size", status: 2, words: (target) => ["run", target, "size=big", "--", "true"] },
  { what: "an unknown parameter", status: 2, words: (target) => ["serve", target, "sice=1G"] },
  { what: "nothing to run", status: 2, words: (target) => ["run", target] },
  { what: "a second endpoint", status: 2, words: (target) => ["serve", target, target] },
  {
    what: "a private socket for serve",
    status: 2,
    words: (target) => ["serve", target, "-U", "-"],
  },
  {
    what: "a missing image",
    status: 3,
    only: "write",
    words: (target) => ["run", target, folder.file("missing.qcow2")],
  },
  {
    what: "an image that needs a size",
    status: 2,
    only: "read",
    words: (target) => ["run", target, folder.file("new.qcow2")],
  },
  {
    what: "a folder for the socket that does not exist",
    status: 3,
    words: (target) => ["serve", target, "-U", nowhere],
  },
  {
    what: "a folder for a report that does not exist",
    status: 3,
    words: (target) => ["run", target, `--summary=json:${nowhere}`, "--", "true"],
  },
  {
    what: "a command that does not exist",
    status: 127,
    words: (target) => ["run", target, "size=1M", "--", nowhere, "$uri"],
  },
  {
    what: "certificates that do not exist",
    status: 3,
    words: (target) => ["serve", target, "--tls=require", `--tls-certificates=${nowhere}`],
  },
];

describe.each(DIRECTIONS)(
  "whoever waits in open(2) (%s) ends with an empty stream after",
  (direction) => {
    test.each(EARLY.filter(({ only = direction }) => only === direction))(
      "$what",
      async ({ status, words }) => {
        const fifo = freshFifo();
        await using waiting = await waitingAt(fifo, direction);
        const ended = await runProgram(words(`${KEYS[direction]}=${fifo}`));
        expect(ended.status, ended.stderr).toBe(status);
        expect((await waiting.ended()).stdout).toBe("");
        expect(existsSync(fifo)).toBeTrue();
      },
    );
  },
);

test("a signal while the image is looked at lets a waiting reader go", async () => {
  const fifo = freshFifo();
  const [bin, asked] = [folder.file("bin"), folder.file("asked")];
  mkdirSync(bin);
  writeFileSync(`${bin}/qemu-img`, `#!/bin/sh\ntouch ${asked}\nexec sleep 60\n`);
  chmodSync(`${bin}/qemu-img`, 0o755);
  writeFileSync(folder.file("disk.raw"), "");
  await using waiting = await waitingAt(fifo, "write");
  await using program = startProgram(["run", `pipe=${fifo}`, folder.file("disk.raw")], {
    env: { PATH: `${bin}:${process.env["PATH"]}` },
  });
  await eventually(() => existsSync(asked), "qemu-img to be asked");
  program.process.kill("SIGTERM");
  expect((await program.ended()).status).toBe(143);
  expect((await waiting.ended()).stdout).toBe("");
});

describe.each(DIRECTIONS)("a program lets go whoever waits in open(2) (%s) after", (direction) => {
  const key = KEYS[direction];
  const CASES: [what: string, code: string, begin: (fifo: string) => Streaming][] = [
    ["a bad option", "ERR_USAGE", (fifo) => serve({ [key]: fifo, maxConnections: 0.5 })],
    ["no command", "ERR_USAGE", (fifo) => run({ [key]: fifo, command: [] })],
    [
      "an address that cannot be had",
      "ERR_LISTEN",
      (fifo) => serve({ [key]: fifo, listen: { kind: "unix", path: nowhere } }),
    ],
    [
      "a stop before anything",
      "ERR_TRUNCATED",
      (fifo) => run({ [key]: fifo, command: ["true"], signal: AbortSignal.abort() }),
    ],
  ];

  test.each(CASES)("%s", async (_, code, begin) => {
    const fifo = freshFifo();
    await using waiting = await waitingAt(fifo, direction);
    const error = await begin(fifo).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code });
    expect((await waiting.ended()).stdout).toBe("");
  });
});

test("the first command line of all ends when the image is missing", async () => {
  const fifo = freshFifo();
  const line = `sh -c 'echo $$ >&2; cat < "$FIFO"' | wc -c & waits=$!; until [ -e "$FIFO.gate" ]; do sleep 0.02; done
    program run pipe="$FIFO" missing.qcow2; status=$?; wait $waits; exit $status`;
  await using running = startShell(line, [], { env: { FIFO: fifo } });
  await running.saying(/^\d+\n/);
  // The shell opens it in a process of its own, or in what is to become cat.
  const opening = () => {
    const first = Number.parseInt(running.stderr, 10);
    const all = [first, ...descendants([first])];
    return pipeUsers(fifo).waiting.some(({ pid }) => all.includes(pid));
  };
  await eventually(opening, "cat to wait in open(2)");
  writeFileSync(`${fifo}.gate`, "");
  const { status, stdout } = await running.ended();
  expect([status, stdout.trim()]).toEqual([3, "0"]);
});

describe("another stream's FIFO is left alone by a command line that is wrong:", () => {
  test("one that is written goes on", async () => {
    const fifo = freshFifo();
    const [gate, out] = [folder.file("gate-write"), folder.file("out-write")];
    await using reader = start(["sh", "-c", 'exec cat < "$0" > "$1"', fifo, out]);
    const io = `qemu-io -f raw -c 'write -P 1 0 1M' "$uri" >&2; echo half >&2
      until [ -e ${gate} ]; do sleep 0.02; done; qemu-io -f raw -c 'write -P 2 1M 1M' "$uri" >&2`;
    await using program = startProgram(["run", `pipe=${fifo}`, "size=2M", "--", io]);
    await program.saying(/half/);
    expect((await runProgram(["serve", `pipe=${fifo}`, "--bogus"])).status).toBe(2);
    writeFileSync(gate, "");
    const ended = await program.ended();
    expect(ended.status, ended.stderr).toBe(0);
    await reader.ended();
    const halves = [Buffer.alloc(1 << 20, 1), Buffer.alloc(1 << 20, 2)];
    expect(Buffer.from(await Bun.file(out).bytes()).equals(Buffer.concat(halves))).toBeTrue();
  });

  test("one that is read goes on", async () => {
    const fifo = freshFifo();
    const gate = folder.file("gate-read");
    const line = `{ head -c 1M /dev/zero; until [ -e ${gate} ]; do sleep 0.02; done; head -c 1M /dev/zero; } > ${fifo}`;
    await using _ = start(["sh", "-c", line], { group: true });
    const io = `qemu-io -r -f raw -c 'read -P 0 0 1M' "$uri" >&2; echo half >&2
      qemu-io -r -f raw -c 'read -P 0 1M 1M' "$uri" >&2`;
    await using program = startProgram(["run", `read=${fifo}`, "size=2M", "--", io]);
    await program.saying(/half/);
    expect((await runProgram(["serve", `read=${fifo}`, "--bogus"])).status).toBe(2);
    writeFileSync(gate, "");
    const ended = await program.ended();
    expect(ended.status, ended.stderr).toBe(0);
  });
});

test("a reader that waits for the next stream waits on when one that had begun is truncated", async () => {
  const fifo = freshFifo();
  await using first = start(["sh", "-c", 'exec head -c 10 < "$0"', fifo]);
  const io = `qemu-io -f raw -c 'write 0 8M' "$uri" >&2; until [ -e ${fifo}.gate ]; do sleep 0.02; done`;
  const line = `trap "" TERM; ${io}`;
  await using program = startProgram(["run", `pipe=${fifo}`, "-v", "--", line]);
  await first.ended();
  // The sink is closed by now, so that it is not let in by that.
  await program.saying(/write failed/);
  await using next = await waitingAt(fifo, "write");
  writeFileSync(`${fifo}.gate`, "");
  expect((await program.ended()).stderr).toContain("went away");
  expect(next.waits).toBeTrue();
});

test.each([
  ["exec:cat > /dev/null", "reader"],
  ["-", "reader"],
  ["exec:head -c 1M /dev/zero", "writer"],
  ["/dev/zero", "writer"],
] as const)("%s has its %s at once, so no timeout for one ends the stream", async (target, who) => {
  // Far less than a stream needs to begin.
  const words = [
    `--${who}-timeout=0.001`,
    "size=1M",
    `${who === "reader" ? "pipe" : "read"}=${target}`,
  ];
  const io = who === "reader" ? "qemu-io -c 'write 0 1M'" : "qemu-io -r -c 'read 0 1M'";
  const { status, stderr } = await runProgram(["run", ...words, "--", `${io} -f raw "$uri" >&2`]);
  expect(stderr).toContain("1048576 bytes");
  expect(status).toBe(0);
});

test("check lets nobody go", async () => {
  const fifo = freshFifo();
  await using waiting = await waitingAt(fifo, "write");
  expect((await runProgram(["check", `pipe=${fifo}`, "--bogus"])).status).toBe(2);
  expect((await runProgram(["check", `pipe=${fifo}`])).status).toBe(0);
  expect(waiting.waits).toBeTrue();
});
