/** What new users get wrong: the message names the remedy, and the remedy works. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, existsSync, symlinkSync } from "node:fs";
import { binFolder } from "../support/documented.ts";
import { encrypting, qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { start } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** The second half first. */
const BACKWARDS =
  'qemu-io -f raw -c "write -s half.raw 4M 4M" -c "write -s disk.raw 0 4M" \'$nbd\'';
const READER = "cat disk.fifo > copy.raw & reader=$!";

interface Mistake {
  readonly wrong: string;
  readonly status: number;
  /** The one line that it leads to. */
  readonly says: RegExp;
  /** What the line says to do instead. */
  readonly right: string;
}

/** `mkfifo disk.fifo` has gone before; the right line brings the disk into `copy.raw`. */
const MISTAKES: Record<string, Mistake> = {
  "$nbd in double quotes": {
    wrong: 'nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw "$nbd"',
    status: 2,
    says: /^qemu-img is not told where the server is: put \$nbd or \$uri .* single quotes, '\$nbd'/,
    right: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'",
  },
  "$uri without quotes": {
    wrong: "nbd-streaming run pipe=disk.fifo -- nbdcopy disk.raw $uri",
    status: 2,
    says: /^nbdcopy is not told where the server is: put \$nbd or \$uri .* in single quotes/,
    right: "nbd-streaming run pipe=disk.fifo -- nbdcopy disk.raw '$uri'",
  },
  "a command line in double quotes": {
    wrong: 'nbd-streaming run pipe=disk.fifo -- "qemu-img convert -n disk.qcow2 -O raw $nbd"',
    status: 2,
    says: /^qemu-img is not told .* in single quotes/,
    right: "nbd-streaming run pipe=disk.fifo -- 'qemu-img convert -n disk.qcow2 -O raw $nbd'",
  },
  "$uri_NAME of another stream": {
    wrong: "nbd-streaming run pipe=disk.fifo -e vda -- nbdcopy disk.raw '$uri_vdb'",
    status: 2,
    says: /^\$uri_vdb is for a stream that is called vdb, and there is none: add -e vdb, or write/,
    right: "nbd-streaming run pipe=disk.fifo -e vda -- nbdcopy disk.raw '$uri_vda'",
  },
  "a command of one's own that is not told": {
    wrong: `nbd-streaming run pipe=disk.fifo -- sh -c 'nbdcopy disk.raw "$1"' sh "$nbd"`,
    status: 1,
    says: /the command failed .*: see its message, and whether it is given \$nbd .* in single quotes/,
    right: `nbd-streaming run pipe=disk.fifo -- sh -c 'nbdcopy disk.raw "$1"' sh '$nbd'`,
  },
  "no -- in front of the command": {
    wrong: "nbd-streaming run pipe=disk.fifo qemu-img convert -n disk.qcow2 -O raw '$nbd'",
    status: 2,
    says: /^a command comes after --: write -- in front of qemu-img$/,
    right: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'",
  },
  "another output format than raw": {
    wrong: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O qcow2 '$nbd'",
    status: 1,
    says: /the command failed .*: see its message, and whether it writes raw \(-O raw\)/,
    right: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'",
  },
  "another output format, which qemu-img makes": {
    wrong: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -O qcow2 disk.qcow2 '$nbd'",
    status: 1,
    says: /use --hold with spool=DIR, which keeps that, or have it write raw data in order \(-O raw\)/,
    right: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -O raw disk.qcow2 '$nbd'",
  },
  "$spool without --hold": {
    wrong: "nbd-streaming run pipe=disk.fifo -- qemu-img convert -O raw disk.qcow2 '$spool'",
    status: 2,
    says: /^\$spool is the file of a stream that is held back: use --hold with spool=DIR, a folder /,
    right:
      "nbd-streaming run pipe=disk.fifo --hold spool=. -- qemu-img convert -O raw disk.qcow2 '$spool'",
  },
  "$spool in double quotes": {
    wrong: `nbd-streaming run pipe=disk.fifo --hold spool=. -- qemu-img convert -O raw disk.qcow2 "$spool"`,
    status: 2,
    says: /: put \$nbd, \$uri or \$spool among its words in single quotes/,
    right:
      "nbd-streaming run pipe=disk.fifo --hold spool=. -- qemu-img convert -O raw disk.qcow2 '$spool'",
  },
  "size= that is too small": {
    wrong: "nbd-streaming run pipe=disk.fifo size=1M disk.qcow2",
    status: 1,
    says: /the command failed .*: see qemu-img's message, and whether size= is large enough$/,
    right: "nbd-streaming run pipe=disk.fifo size=8M disk.qcow2",
  },
  "a suffix of size= that is none": {
    wrong: "nbd-streaming run pipe=disk.fifo size=8MiB disk.qcow2",
    status: 2,
    says: /^size=8MiB is not a size: write a whole number and a suffix, such as 512M or 10G$/,
    right: "nbd-streaming run pipe=disk.fifo size=8M disk.qcow2",
  },
  "a parameter written as an option": {
    wrong: "nbd-streaming run pipe=disk.fifo --size 8M disk.qcow2",
    status: 2,
    says: /^size= is a parameter, not an option: write size=… without dashes$/,
    right: "nbd-streaming run pipe=disk.fifo size=8M disk.qcow2",
  },
  "a parameter with one dash": {
    wrong: "nbd-streaming run -pipe=disk.fifo disk.qcow2",
    status: 2,
    says: /^pipe= is a parameter, not an option: write pipe=… without dashes$/,
    right: "nbd-streaming run pipe=disk.fifo disk.qcow2",
  },
  "a parameter with a space": {
    wrong: "nbd-streaming run pipe = disk.fifo disk.qcow2",
    status: 2,
    says: /^pipe= needs a value: write pipe=… without a space$/,
    right: "nbd-streaming run pipe=disk.fifo disk.qcow2",
  },
  "no run": {
    wrong: "nbd-streaming pipe=disk.fifo disk.qcow2",
    status: 2,
    says: /^the command is missing: write nbd-streaming run pipe=disk.fifo, or nbd-streaming serve/,
    right: "nbd-streaming run pipe=disk.fifo disk.qcow2",
  },
  "no pipe=": {
    wrong: "nbd-streaming run disk.qcow2",
    status: 2,
    says: /^pipe=SINK is missing: name .*, such as pipe=disk.fifo /,
    right: "nbd-streaming run pipe=disk.fifo disk.qcow2",
  },
  "an image for serve": {
    wrong: "nbd-streaming serve -U nbd.sock pipe=disk.fifo disk.qcow2",
    status: 2,
    says: /^unknown argument disk.qcow2: .* an IMAGE is for run$/,
    right: "nbd-streaming run -U nbd.sock pipe=disk.fifo disk.qcow2",
  },
  "a line of nbdkit's": {
    wrong:
      "nbd-streaming run pipe=disk.fifo --run 'exec qemu-img convert -n disk.qcow2 -O raw $nbd'",
    status: 2,
    says: /^--run is nbdkit's: here a command comes after --$/,
    right: "nbd-streaming run pipe=disk.fifo -- 'exec qemu-img convert -n disk.qcow2 -O raw $nbd'",
  },
  "an image that does not exist": {
    wrong: "nbd-streaming run pipe=disk.fifo dist.qcow2",
    status: 3,
    says: /^cannot read dist.qcow2: .*No such file or directory; check its name$/,
    right: "nbd-streaming run pipe=disk.fifo disk.qcow2",
  },
  "an image with a colon in its name": {
    wrong: "cp disk.qcow2 10:00.qcow2; nbd-streaming run pipe=disk.fifo 10:00.qcow2",
    status: 3,
    says: /^cannot read 10:00.qcow2: .*; if it is a file, write .\/10:00.qcow2$/,
    right: "nbd-streaming run pipe=disk.fifo ./10:00.qcow2",
  },
  "an image that comes out of a pipe": {
    wrong: "cat disk.qcow2 | nbd-streaming run pipe=disk.fifo /dev/stdin",
    status: 3,
    says: /^cannot read \/dev\/stdin: .*; qemu-img needs a file, in which it can seek: a pipe is none$/,
    right: "nbd-streaming run pipe=disk.fifo /dev/stdin < disk.qcow2",
  },
  "an image on standard input": {
    wrong: "nbd-streaming run pipe=disk.fifo - < disk.qcow2",
    status: 2,
    says: /^IMAGE cannot be -: qemu-img needs a file, in which it can seek; .\/- is one$/,
    right: "cp disk.qcow2 ./-; nbd-streaming run pipe=disk.fifo ./-",
  },
  "an image that needs words of qemu-img's": {
    wrong: `${encrypting("disk.raw", "luks.qcow2", "data=secret")}; nbd-streaming run pipe=disk.fifo luks.qcow2`,
    status: 1,
    says: /: see qemu-img's message on luks.qcow2; if that needs options .* command after --$/,
    right:
      "nbd-streaming run pipe=disk.fifo -- qemu-img convert -n --object secret,id=key,data=secret " +
      "--image-opts driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=key -O raw '$nbd'",
  },
  "an image whose backing file is not there": {
    wrong:
      "qemu-img create -q -u -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 8M; " +
      "nbd-streaming run pipe=disk.fifo top.qcow2",
    status: 1,
    says: /: see qemu-img's message on top.qcow2; /,
    right: "mv disk.qcow2 base.qcow2; nbd-streaming run pipe=disk.fifo top.qcow2",
  },
  "a client that writes out of order": {
    wrong: `nbd-streaming run pipe=disk.fifo -- ${BACKWARDS}`,
    status: 1,
    says: /the client does not write from start to end; window=64M has room for this/,
    right: `nbd-streaming run pipe=disk.fifo window=64M -- ${BACKWARDS}`,
  },
};

const shared = tempFolder();
afterAll(() => shared[Symbol.dispose]());
const env = { PATH: `${binFolder(shared.file("bin"))}:${process.env.PATH}`, nbd: "", uri: "" };
let disk: string;
beforeAll(async () => {
  disk = (await qcow2Image(shared.file("disk.qcow2"), 8 * MiB)).sha256;
  const content = await Bun.file(shared.file("disk.qcow2.raw")).bytes();
  await Bun.write(shared.file("half.raw"), content.subarray(4 * MiB));
});

/** A folder with the disk and a FIFO, and lines of the shell that run in it. */
class Desk implements Disposable {
  readonly #folder = tempFolder();

  constructor() {
    copyFileSync(shared.file("disk.qcow2"), this.file("disk.qcow2"));
    symlinkSync(shared.file("disk.qcow2.raw"), this.file("disk.raw"));
    symlinkSync(shared.file("half.raw"), this.file("half.raw"));
  }

  file(name: string): string {
    return this.#folder.file(name);
  }

  async run(script: string): Promise<{ status: number; errors: string[]; stderr: string }> {
    const cwd = this.#folder.path;
    await using running = start(["sh", "-c", script], { cwd, env, group: true });
    const { status, stderr } = await running.ended();
    const errors = [...stderr.matchAll(/^nbd-streaming: error: (.*)$/gm)].map(([, text]) => text);
    return { status, errors: errors as string[], stderr };
  }

  /** Runs a line that is to bring the disk into `copy.raw`. */
  async succeeds(script: string): Promise<void> {
    const { status, errors, stderr } = await this.run(script);
    expect({ status, errors }, stderr).toEqual({ status: 0, errors: [] });
    expect(await digestFile(this.file("copy.raw"))).toBe(disk);
  }

  async fails(script: string, expected: number, says: RegExp): Promise<void> {
    const { status, errors, stderr } = await this.run(script);
    expect(errors, stderr).toEqual([expect.stringMatching(says)]);
    expect(status).toBe(expected);
    expect(stderr).not.toContain("    at ");
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

describe.each(Object.entries(MISTAKES))("%s", (_, { wrong, status, says, right }) => {
  test("is told in one line, and the remedy in it works", async () => {
    using desk = new Desk();
    // The reader of a stream that never begins would wait for ever.
    await desk.fails(
      `mkfifo disk.fifo; ${READER}\n${wrong}\ns=$?; kill $reader; exit $s`,
      status,
      says,
    );
    await desk.succeeds(`${READER}\n${right} && wait`);
  });
});

test("a regular file as the pipe is refused, and standard output writes to one", async () => {
  using desk = new Desk();
  const says = /^pipe=copy.raw cannot be used: it is a regular file, .*: pipe=- > copy.raw$/;
  await desk.fails("touch copy.raw; nbd-streaming run pipe=copy.raw disk.qcow2", 3, says);
  await desk.succeeds("nbd-streaming run pipe=- disk.qcow2 > copy.raw");
});

test("the image as the pipe is refused, and stays", async () => {
  using desk = new Desk();
  const before = await digestFile(desk.file("disk.qcow2"));
  const says = /^pipe=disk.qcow2 is IMAGE itself: name a pipe, or another file for pipe=-$/;
  await desk.fails("nbd-streaming run pipe=disk.qcow2 disk.qcow2", 2, says);
  await desk.fails(
    "nbd-streaming run pipe=- disk.qcow2 >> disk.qcow2",
    2,
    /^pipe=- is IMAGE itself: /,
  );
  expect(await digestFile(desk.file("disk.qcow2"))).toBe(before);
  await desk.succeeds("nbd-streaming run pipe=- disk.qcow2 > copy.raw");
});

test("that nobody reads is told while it waits, with a reader to start", async () => {
  using desk = new Desk();
  const waits = "nbd-streaming run pipe=new.fifo disk.qcow2 2> said & program=$!";
  const told = "until grep -q 'waiting for a reader' said; do sleep 0.02; done";
  const advice = "sed -n 's/.*such as \\(.*\\) > FILE$/\\1 > copy.raw/p' said";
  await desk.succeeds(`${waits}\n${told}\nreader=$(${advice})\neval "$reader" && wait $program`);
  expect(existsSync(desk.file("new.fifo"))).toBe(false);
});

test("an image in use is told, and can be streamed afterwards", async () => {
  using desk = new Desk();
  const holder = 'qemu-nbd -t -k "$PWD/holder.sock" disk.qcow2 & holder=$!';
  const held = "until [ -S holder.sock ]; do sleep 0.02; done";
  const run = "nbd-streaming run pipe=- disk.qcow2 > copy.raw";
  await desk.fails(
    `${holder}\n${held}\n${run}\ns=$?; kill $holder; wait $holder; exit $s`,
    3,
    /^cannot read disk.qcow2: .*lock.*; end the program that uses it first, or see docs\/live-vm.md .*$/,
  );
  await desk.succeeds(run);
});

test("a file in the socket's place is told, and another path works", async () => {
  using desk = new Desk();
  const run = (socket: string) => `nbd-streaming run -U ${socket} pipe=- disk.qcow2 > copy.raw`;
  const says = /^cannot listen on disk.raw: it is there, and is no socket: choose another path$/;
  await desk.fails(run("disk.raw"), 3, says);
  await desk.succeeds(run("nbd.sock"));
});

test("a reader that dies is told, and one that stays gets the disk", async () => {
  using desk = new Desk();
  const run =
    "mkfifo disk.fifo; head -c 1000 disk.fifo > copy.raw & nbd-streaming run pipe=disk.fifo disk.qcow2";
  await desk.fails(
    run,
    1,
    /the reader of disk.fifo went away .*: see why it ended, and start again$/,
  );
  await desk.succeeds(`${READER}\nnbd-streaming run pipe=disk.fifo disk.qcow2 && wait`);
});

test("two streams at once into one pipe are told apart, and the reader gets the first", async () => {
  using desk = new Desk();
  const first = `nbd-streaming run pipe=disk.fifo -- sh -c 'nbdcopy disk.raw "$1"; touch written;
    until [ -e tried ]; do sleep 0.02; done' sh '$nbd' & first=$!`;
  await desk.fails(
    `mkfifo disk.fifo; ${READER}\n${first}
    until [ -e written ]; do sleep 0.02; done
    nbd-streaming run pipe=disk.fifo disk.qcow2; s=$?; touch tried
    wait $first || exit 99; wait $reader; exit $s`,
    1,
    /: another nbd-streaming writes to disk.fifo: name a pipe of its own for each stream$/,
  );
  expect(await digestFile(desk.file("copy.raw"))).toBe(disk);
});

test("a length that a pipe does not tell is asked for", async () => {
  using desk = new Desk();
  const run = (size: string) => `cat disk.raw | nbd-streaming run read=- ${size} copy.raw`;
  await desk.fails(
    run(""),
    2,
    /^making copy\.raw needs size=: .*; give the exact size of the disk/,
  );
  await desk.succeeds(run("size=8M"));
});

test("a compressed file as the source gets a warning, and the line in it makes the disk", async () => {
  using desk = new Desk();
  await desk.run("gzip -kc disk.raw > disk.raw.gz");
  const { status, stderr } = await desk.run("nbd-streaming run read=disk.raw.gz copy.raw");
  expect(status).toBe(0);
  const [, source] =
    /warn: disk.raw.gz begins like .* gzip .*, write (read=\S.*)$/m.exec(stderr) ?? [];
  await desk.succeeds(`nbd-streaming run ${source} size=8M copy.raw`);
});
