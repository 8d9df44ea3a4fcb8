/** `run read=SOURCE IMAGE` with an IMAGE that is there: it is replaced whole, or is as it was. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { loopDevicesWork, ownMountsWork } from "../support/abilities.ts";
import { digestDisk } from "../support/copied.ts";
import { digestSectors, type Image, pseudoRandom, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { AS_NOBODY, noNobody } from "../support/nobody.ts";
import {
  command,
  type Ended,
  eventually,
  PROGRAM,
  type Running,
  runProgram,
  start,
  startProgram,
} from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const IS_ROOT = process.getuid?.() === 0;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(images.file("disk.bin"), 3 * MiB);
  chmodSync(images.path, 0o755);
});

/** A folder with an image in it, and what it was. */
class Place implements Disposable {
  readonly #folder = tempFolder();
  readonly path = this.#folder.path;
  readonly image = this.#folder.file("disk.raw");
  readonly #was = pseudoRandom(2 * MiB, 9);
  readonly #ino: number;

  constructor() {
    writeFileSync(this.image, this.#was);
    this.#ino = statSync(this.image).ino;
  }

  file(name: string): string {
    return this.#folder.file(name);
  }

  /** Runs the shortcut with the whole disk, or with these words in place of the source's. */
  make(words: readonly string[] = [`read=${disk.path}`], before: readonly string[] = []) {
    return this.run([...words, "disk.raw"], before);
  }

  async run(words: readonly string[], before: readonly string[] = []): Promise<Ended> {
    await using running = start([...before, ...PROGRAM, "run", ...words], { cwd: this.path });
    return await running.ended();
  }

  /** The very file is there, with what was in it, and nothing else but `others`. */
  expectAsBefore(...others: string[]): void {
    expect(statSync(this.image).ino).toBe(this.#ino);
    expect(readFileSync(this.image).equals(this.#was)).toBeTrue();
    expect(readdirSync(this.path).toSorted()).toEqual(["disk.raw", ...others].toSorted());
  }

  /** The folder in which the new one is made. */
  get hidden(): string | undefined {
    return readdirSync(this.path).find((name) => name.startsWith(".nbd-streaming-"));
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

/** Starts qemu-nbd, and waits until it has the image open: its socket is there before. */
async function qemuNbd(place: Place): Promise<Running> {
  const words = ["-f", "raw", "-k", place.file("nbd.sock"), "--pid-file=qemu-nbd.pid", "disk.raw"];
  const running = start(["qemu-nbd", ...words], { cwd: place.path });
  await eventually(() => existsSync(place.file("qemu-nbd.pid")), "qemu-nbd");
  return running;
}

/** The disk in two halves, with a gate between them. */
const GATE = "until [ -e gate ]; do sleep 0.02; done";
const halves = () =>
  `read=exec:head -c 1M '${disk.path}'; ${GATE}; tail -c +1048577 '${disk.path}'`;

describe("an IMAGE that is there is as it was before when", () => {
  test.each([
    { what: "the source ends early", words: ["read=exec:head -c 1M /dev/zero", "size=8M"] },
    { what: "the source fails", words: ["read=exec:head -c 8M /dev/zero; exit 3", "size=8M"] },
    { what: "the source is nothing at all", words: ["read=exec:false", "size=8M"] },
    { what: "the source is longer than size=", words: ["read=/dev/zero", "size=8M", "--exact"] },
    {
      what: "qemu-img does not know the format",
      words: ["-O", "bogus", "read=/dev/zero", "size=8M"],
    },
  ])("$what", async ({ words }) => {
    using place = new Place();
    const { status, stderr } = await place.make(words);
    expect(status, stderr).not.toBe(0);
    expect(stderr).toContain("nbd-streaming: disk.raw is as it was before\n");
    place.expectAsBefore();
  });

  test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("%s comes", async (signal) => {
    using place = new Place();
    const words = ["run", halves(), `size=${disk.size}`, "disk.raw"];
    await using program = startProgram(words, { cwd: place.path });
    await eventually(() => existsSync(place.file(`${place.hidden}/disk.raw`)), "the new image");
    program.process.kill(signal);
    expect((await program.ended()).status).toBeGreaterThan(128);
    place.expectAsBefore();
  });

  test.skipIf(!ownMountsWork())("there is no room for a second one", async () => {
    using place = new Place();
    const steps = [
      "mkdir full && mount -t tmpfs -o size=3M none full && cp disk.raw full",
      `"$@"; status=$?`,
      "cmp disk.raw full/disk.raw && ls -A full >&2 && umount full && rmdir full; exit $status",
    ];
    const before = ["unshare", "-Urm", "sh", "-c", steps.join("; "), "sh"];
    const ended = await place.run([`read=${disk.path}`, "full/disk.raw"], before);
    expect(ended.status, ended.stderr).not.toBe(0);
    expect(ended.stderr).toContain("No space left on device");
    expect(ended.stderr).toEndWith("\ndisk.raw\n");
    place.expectAsBefore();
  });

  test.skipIf(Bun.which("strace") === null)("the new one cannot be stored", async () => {
    using place = new Place();
    const inject = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO"];
    const before = ["strace", "-f", "-qq", ...inject, "-o", "/dev/null"];
    const { status, stderr } = await place.make(undefined, before);
    expect(status, stderr).toBe(3);
    expect(stderr).toMatch(/error: cannot store the image disk.raw: EIO.*; it is as it was before/);
    place.expectAsBefore();
  });

  test.skipIf(Bun.which("strace") === null)(
    "a signal comes before the new one is stored",
    async () => {
      using place = new Place();
      const inject = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=5000000"];
      const before = ["strace", "-f", "-qq", ...inject, "-o", place.file("trace")];
      const source = `exec:${GATE}; cat ${disk.path}`;
      const options = ["size=3M", "-P", "pid", "--summary=json:sum"];
      const words = [...PROGRAM, "run", `read=${source}`, "disk.raw", ...options];
      await using running = start([...before, ...words], { cwd: place.path, group: true });
      await eventually(() => existsSync(place.file("pid")), "the pid file");
      const pid = Number(readFileSync(place.file("pid"), "latin1"));
      // Not before: the file is there for no longer than the stream.
      writeFileSync(place.file("gate"), "");
      await eventually(() => !existsSync(place.file("pid")), "the end of the stream");
      process.kill(pid, "SIGTERM");
      const { status, stderr } = await running.ended();
      expect(status, stderr).toBe(143);
      expect(stderr).toMatch(/truncated: ended by SIGTERM before the image was on the disk/);
      expect(JSON.parse(readFileSync(place.file("sum"), "utf8"))).toMatchObject({
        complete: false,
      });
      place.expectAsBefore("gate", "sum", "trace");
    },
  );

  test("a program of qemu's has it open for writing", async () => {
    using place = new Place();
    await using _ = await qemuNbd(place);
    const { status, stderr } = await place.make();
    expect({ status, stderr }).toEqual({
      status: 3,
      stderr:
        "nbd-streaming: error: cannot make the image disk.raw: another program writes to the one that " +
        "is there; end it first, or name another file\n",
    });
    place.expectAsBefore("nbd.sock", "qemu-nbd.pid");
  });

  test("a program of qemu's has opened it meanwhile: the new one stays beside it", async () => {
    using place = new Place();
    const words = ["run", halves(), `size=${disk.size}`, "disk.raw"];
    await using program = startProgram(words, { cwd: place.path });
    await eventually(() => place.hidden !== undefined, "the folder");
    await using _ = await qemuNbd(place);
    writeFileSync(place.file("gate"), "");
    const { status, stderr } = await program.ended();
    expect(status, stderr).toBe(3);
    const said =
      /error: cannot name the image disk.raw: another program has begun to write to .*; it is complete, and stays at (.*)\n$/;
    expect(stderr).toMatch(said);
    expect(await digestFile(said.exec(stderr)?.[1] as string)).toBe(await digestSectors(disk));
    place.expectAsBefore("gate", "nbd.sock", "qemu-nbd.pid", place.hidden as string);
  });

  test.skipIf(noNobody !== undefined)("it may not be written (needs root)", async () => {
    using place = new Place();
    chmodSync(place.path, 0o777);
    chmodSync(place.image, 0o444);
    const { status, stderr } = await place.make(undefined, AS_NOBODY);
    expect(status, stderr).toBe(3);
    expect(stderr).toMatch(/cannot make the image disk.raw: EACCES.*; make it writable, or /);
    place.expectAsBefore();
  });

  test.skipIf(noNobody !== undefined)("nothing can be made beside it (needs root)", async () => {
    using place = new Place();
    chmodSync(place.path, 0o755);
    chmodSync(place.image, 0o666);
    const { status, stderr } = await place.make(undefined, AS_NOBODY);
    expect(status, stderr).toBe(3);
    expect(stderr).toMatch(/cannot make the image disk.raw: EACCES.*; check the folder/);
    place.expectAsBefore();
  });
});

describe("an IMAGE that is there is replaced", () => {
  test("when the new one is complete, and keeps its permissions", async () => {
    using place = new Place();
    chmodSync(place.image, 0o640);
    linkSync(place.image, place.file("other name"));
    const was = readFileSync(place.image);
    const before = statSync(place.image).ino;
    expect(await place.make()).toMatchObject({ status: 0 });
    expect(statSync(place.image).ino).not.toBe(before);
    expect(statSync(place.image).mode & 0o7777).toBe(0o640);
    expect(await digestFile(place.image)).toBe(disk.sha256);
    // What has another name, too, has not been written to.
    expect(readFileSync(place.file("other name")).equals(was)).toBeTrue();
    expect(readdirSync(place.path).toSorted()).toEqual(["disk.raw", "other name"]);
  });

  test.skipIf(!IS_ROOT)("and keeps its owner (needs root)", async () => {
    using place = new Place();
    chownSync(place.image, 65534, 65533);
    expect(await place.make()).toMatchObject({ status: 0 });
    expect(statSync(place.image)).toMatchObject({ uid: 65534, gid: 65533 });
    expect(await digestFile(place.image)).toBe(disk.sha256);
  });

  test("while somebody reads it, who goes on with the old one", async () => {
    using place = new Place();
    const was = await digestFile(place.image);
    await using reader = start(
      ["sh", "-c", `exec < disk.raw; echo open >&2; ${GATE}; exec sha256sum`],
      {
        cwd: place.path,
      },
    );
    await reader.saying(/open/);
    expect(await place.make()).toMatchObject({ status: 0 });
    writeFileSync(place.file("gate"), "");
    expect((await reader.ended()).stdout).toStartWith(was);
  });

  test("by the name file:PATH, too", async () => {
    using place = new Place();
    expect(await place.run([`read=${disk.path}`, "file:disk.raw"])).toMatchObject({ status: 0 });
    expect(await digestFile(place.image)).toBe(disk.sha256);
    expect(readdirSync(place.path)).toEqual(["disk.raw"]);
  });

  test.each(["qcow2", "vmdk", "vdi", "vhdx"])("as %s", async (format) => {
    using place = new Place();
    renameSync(place.image, place.file(`disk.${format}`));
    expect(await place.run([`read=${disk.path}`, `disk.${format}`])).toMatchObject({ status: 0 });
    expect(await digestDisk(place.file(`disk.${format}`), format)).toBe(disk.sha256);
  });

  test.skipIf(Bun.which("strace") === null)("after it is on the disk", async () => {
    using place = new Place();
    const calls = "trace=fsync,rename,renameat,renameat2";
    const before = ["strace", "-f", "-qq", "-e", calls, "-o", place.file("trace")];
    expect(await place.make(undefined, before)).toMatchObject({ status: 0 });
    const trace = readFileSync(place.file("trace"), "latin1");
    const [stored, named] = [trace.search(/fsync\(/), trace.search(/rename.*disk\.raw"\) += 0/)];
    expect(stored).toBeGreaterThanOrEqual(0);
    expect(named).toBeGreaterThan(stored);
  });
});

test("a file that somebody has made meanwhile is not replaced, and the image stays beside it", async () => {
  using place = new Place();
  const words = ["run", halves(), `size=${disk.size}`, "-O", "raw", "new"];
  await using program = startProgram(words, { cwd: place.path });
  await eventually(() => place.hidden !== undefined, "the folder");
  writeFileSync(place.file("new"), "precious");
  writeFileSync(place.file("gate"), "");
  const { status, stderr } = await program.ended();
  expect(status, stderr).toBe(3);
  const said =
    /cannot name the image new: somebody has put another file there meanwhile; it is complete, and stays at (.*)\n$/;
  expect(stderr).toMatch(said);
  expect(readFileSync(place.file("new"), "latin1")).toBe("precious");
  expect(await digestFile(said.exec(stderr)?.[1] as string)).toBe(disk.sha256);
});

test(`nor is one that he makes in the moment in which the image gets its name ${NEEDS_STRACE}`, async () => {
  if (!STRACE_WORKS) return;
  using place = new Place();
  const calls = "link,linkat,rename,renameat,renameat2";
  const trace = ["strace", "-f", "-qq", "-o", "/dev/null"];
  const late = ["-e", `trace=${calls}`, "-e", `inject=${calls}:delay_enter=3000000`];
  const words = ["run", `read=${disk.path}`, "-O", "raw", "new", "-P", "pid"];
  const all = [...trace, ...late, ...PROGRAM, ...words];
  await using running = start(all, { cwd: place.path, group: true });
  await eventually(() => existsSync(place.file("pid")), "the pid file");
  await eventually(() => !existsSync(place.file("pid")), "the end of the stream");
  await Bun.sleep(500);
  writeFileSync(place.file("new"), "precious", { flag: "wx" });
  const { status, stderr } = await running.ended();
  expect(status, stderr).toBe(3);
  expect(stderr).toMatch(
    /cannot name the image new: somebody has put another file there meanwhile; /,
  );
  expect(readFileSync(place.file("new"), "latin1")).toBe("precious");
});

test("a folder of somebody else by the name of ours is not removed", async () => {
  using place = new Place();
  // More than a pipe has room for: qemu-img reads, and has the image open.
  const source = `read=exec:head -c 2M '${disk.path}'; touch half; ${GATE}`;
  const words = ["run", source, `size=${disk.size}`, "disk.raw"];
  await using program = startProgram(words, { cwd: place.path });
  await eventually(() => existsSync(place.file("half")), "half of it");
  const hidden = place.hidden as string;
  renameSync(place.file(hidden), place.file("moved"));
  await command(["mkdir", place.file(hidden)]);
  writeFileSync(place.file(`${hidden}/notes`), "precious");
  program.process.kill("SIGTERM");
  const { status, stderr } = await program.ended();
  expect(status, stderr).toBe(143);
  expect(readFileSync(place.file(`${hidden}/notes`), "latin1")).toBe("precious");
  place.expectAsBefore("moved", hidden, "half");
});

test.each([
  { what: "a pipe", make: (path: string) => mkfifo(path, 0o600) },
  {
    what: "a socket",
    make: (path: string) => Bun.listen({ unix: path, socket: { data() {} } }).unref(),
  },
])("an IMAGE that is $what is refused before anything begins", async ({ what, make }) => {
  using place = new Place();
  make(place.file("x"));
  const ended = await place.run([`read=exec:touch began`, "size=1M", "-O", "raw", "x"]);
  expect(ended).toMatchObject({ status: 3, stderr: expect.stringContaining(`x: it is ${what};`) });
  place.expectAsBefore("x");
});

describe.skipIf(!loopDevicesWork())("a loop device (skipped where losetup cannot make one)", () => {
  test("is overwritten, and that is said", async () => {
    using place = new Place();
    const file = place.file("device");
    writeFileSync(file, Buffer.alloc(disk.size, 1));
    const device = (await command(["losetup", "--find", "--show", file])).trim();
    try {
      const { status, stderr } = await runProgram([
        "run",
        `read=${disk.path}`,
        "-O",
        "raw",
        device,
      ]);
      expect(status, stderr).toBe(0);
      expect(stderr).toContain(`nbd-streaming: ${device} is a block device: it is overwritten, `);
      await command(["blockdev", "--flushbufs", device]);
    } finally {
      await command(["losetup", "--detach", device]);
    }
    expect(await digestFile(file)).toBe(disk.sha256);
  });
});
