/** `$spool`: the disk of a stream that is held, as an ordinary file of the command. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ownMountsWork } from "../support/abilities.ts";
import { pseudoRandom } from "../support/images.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import {
  command,
  type Ended,
  eventually,
  PROGRAM,
  runProgram,
  startProgram,
} from "../support/program.ts";
import { failing, NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { tempFolder } from "../support/temp.ts";
import { GATE, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const HELD = ["spool=.", "--hold"];
const OUT = "pipe=exec:cat > out";

const masters = tempFolder();
afterAll(() => masters[Symbol.dispose]());

/** A raw disk with data and holes, one of them at its end. */
const DISK = masters.file("disk.raw");
beforeAll(() => {
  const disk = Buffer.alloc(16 * MiB);
  pseudoRandom(3 * MiB + 4096, 5).copy(disk);
  Buffer.from(pseudoRandom(MiB, 6).toString("hex")).copy(disk, 8 * MiB);
  writeFileSync(DISK, disk);
});

/** A run in a folder of its own. */
interface Run extends Disposable {
  readonly ended: Ended;
  /** Bytes of a file of the folder. */
  read(name?: string): Buffer;
  readonly started: boolean;
  file(name: string): string;
}

/** Runs a command, as a line for the shell or as words, with a sink that makes `out`. */
async function run(captive: string | readonly string[], ...options: string[]): Promise<Run> {
  const folder = tempFolder();
  const words = ["run", OUT, ...HELD, ...options, "--", ...[captive].flat()];
  const ended = await runProgram(words, { cwd: folder.path });
  return {
    ended,
    read: (name = "out") => readFileSync(folder.file(name)),
    get started() {
      return existsSync(folder.file("out"));
    },
    file: folder.file,
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

/** Expects a complete stream of exactly this. */
async function expectStreamed(captive: string, bytes: Uint8Array, ...options: string[]) {
  using made = await run(captive, ...options);
  expect(made.ended.status, made.ended.stderr).toBe(0);
  const out = made.read();
  expect(out.length).toBe(bytes.length);
  expect(out.equals(bytes)).toBeTrue();
}

/** Expects a stream that has not even begun. */
async function expectNothing(captive: string, status: number, why: RegExp, ...options: string[]) {
  using made = await run(captive, ...options);
  expect(made.ended.status, made.ended.stderr).toBe(status);
  expect(made.ended.stderr).toMatch(why);
  expect(made.started).toBeFalse();
}

describe("an image that qemu-img makes in $spool is the one that it makes in a file", () => {
  const CHECKED = ["qcow2", "qed", "vdi", "vhdx", "vmdk"];

  test.each([
    ["vmdk", ""],
    ["vmdk", "-o subformat=streamOptimized"],
    ["vhdx", ""],
    ["vhdx", "-o subformat=fixed"],
    ["vpc", ""],
    ["vpc", "-o force_size"],
    ["vpc", "-o subformat=fixed,force_size"],
    ["vdi", ""],
    ["vdi", "-o static=on"],
    ["qcow2", ""],
    ["qcow2", "-c"],
    ["qcow2", "-o preallocation=full"],
    ["qcow2", "-W -m 16"],
    ["qed", ""],
    ["parallels", ""],
    ["raw", ""],
  ])("%s %s", async (format, options) => {
    const words = ["qemu-img", "convert", "-f", "raw", "-O", format, ...options.split(" ")];
    const convert = [...words.filter((word) => word !== ""), DISK];
    using made = await run([...convert, "$spool"]);
    expect(made.ended.status, made.ended.stderr).toBe(0);
    const out = made.file("out");
    await command(["qemu-img", "compare", "-f", "raw", "-F", format, DISK, out]);
    if (CHECKED.includes(format)) await command(["qemu-img", "check", "-f", format, out]);
    const own = made.file("own");
    await command([...convert, own]);
    expect(statSync(out).size).toBe(statSync(own).size);
  });
});

describe("what else makes a file", () => {
  const MKFS = ["mkfs.ext4", "e2fsck", "debugfs"].every((tool) => Bun.which(tool) !== null);

  test.skipIf(!MKFS)("mkfs.ext4 makes a file system with files in it", async () => {
    const line =
      'mkdir d && echo hello > d/file && truncate -s 64M "$spool" && mkfs.ext4 -q -d d "$spool"';
    using made = await run(line);
    expect(made.ended.status, made.ended.stderr).toBe(0);
    expect(statSync(made.file("out")).size).toBe(64 * MiB);
    await command(["e2fsck", "-fn", made.file("out")]);
    const cat = ["debugfs", "-R", "cat /file", made.file("out")];
    expect(await command(cat)).toBe("hello\n");
  });

  test.skipIf(!MKFS)("mkfs.ext4 that fails has nothing streamed", async () => {
    const line = 'truncate -s 64M "$spool" && mkfs.ext4 -q -d missing "$spool"';
    await expectNothing(line, 1, /the command failed with the stream at byte 0: see its message\n/);
  });

  test("a redirection of the shell", () =>
    expectStreamed('echo hello > "$spool"', Buffer.from("hello\n")));

  test("a hole is zeroes, also at the end", async () => {
    const bytes = Buffer.alloc(5 * MiB);
    bytes.write("ab", 3 * MiB);
    const write = "printf ab | dd of=$spool bs=1M seek=3 conv=notrunc status=none";
    await expectStreamed(`${write} && truncate -s 5M $spool`, bytes);
  });

  test("only a hole", () => expectStreamed("truncate -s 3M $spool", Buffer.alloc(3 * MiB)));

  test("room that nothing was written into", async () => {
    await expectStreamed("fallocate -l 3M $spool", Buffer.alloc(3 * MiB));
  });

  test("a file that is made shorter again is as long as it is in the end", async () => {
    const lines =
      "head -c 9000000 /dev/zero > $spool && truncate -s 5 $spool && truncate -s 7 $spool";
    await expectStreamed(lines, Buffer.alloc(7));
  });

  test("a file that is begun anew is the last one", async () => {
    await expectStreamed(
      "echo first and longer > $spool; echo second > $spool",
      Buffer.from("second\n"),
    );
  });

  test("a file that is written by mmap(2)", async () => {
    const map = 'Bun.mmap(process.env.spool).set(new TextEncoder().encode("mapped"), 8192)';
    const bytes = Buffer.alloc(3 * 4096);
    bytes.write("mapped", 8192);
    const shell = `truncate -s 12K $spool && "${process.execPath}" -e '${map}'`;
    await expectStreamed(shell, bytes);
  });

  test("what the command and its client both write is one disk", async () => {
    const bytes = Buffer.alloc(3 * MiB, 0x11);
    bytes.fill(0, MiB, 2 * MiB);
    bytes.fill(0x22, 0, 4096);
    const lines = [
      `head -c ${3 * MiB} /dev/zero | tr '\\0' '\\021' > $spool`,
      "qemu-io -f raw -c 'write -P 0x22 0 4k' -c 'write -z -u 1M 1M' -c 'read -P 0x11 2M 1M' $nbd >&2",
    ];
    await expectStreamed(lines.join(" && "), bytes, "size=8M", "--no-pad");
  });
});

describe("the length of a stream that a command makes as a file", () => {
  const ABC = "printf abc > $spool";

  test("is that of the file, which the sink is told", async () => {
    using folder = tempFolder();
    const sink = 'pipe=exec:echo "$NBD_STREAMING_SIZE" > size; cat > out';
    const words = ["run", sink, ...HELD, "--summary=json:sum", "--", ABC];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status, stderr).toBe(0);
    expect(readFileSync(folder.file("size"), "utf8")).toBe("3\n");
    const { bytes, spool } = JSON.parse(readFileSync(folder.file("sum"), "utf8"));
    expect(bytes).toBe(3);
    expect(spool.most).toBeGreaterThan(0);
  });

  test("is size=, up to which there are zeroes", () => {
    return expectStreamed(ABC, Buffer.from("abc\0\0"), "size=5");
  });

  test("is that of the file with --no-pad, and size= is a limit", () => {
    return expectStreamed(ABC, Buffer.from("abc"), "size=5", "--no-pad");
  });

  test.each(["--pad", "--no-pad"])("is never cut off to size=, with %s", async (pad) => {
    const why =
      /the command has made a file of 3 bytes, more than size=2: give a larger size=, or none\n/;
    await expectNothing(ABC, 4, why, "size=2", pad);
  });
});

describe("nothing is streamed", () => {
  test("of a command that fails after it has written all", () => {
    return expectNothing(
      "echo all > $spool; exit 7",
      7,
      /the command failed .*: see its message\n/,
    );
  });

  test.each([
    ["without size=", [], /is one that grows \(VMDK, VHDX, QED\), and needs a file: \$spool\n/],
    [
      "with size=",
      ["size=1G"],
      /is one that grows \(VMDK, VHDX, QED\), and needs a file: with run that is \$spool\n/,
    ],
  ])("of a qemu-img that wants a disk over NBD to grow, %s", async (_, options, why) => {
    await expectNothing(`qemu-img convert -f raw -O vmdk ${DISK} $nbd`, 1, why, ...options);
  });

  const ROOT = process.getuid?.() === 0 && Bun.which("setpriv") !== null;

  test.skipIf(!ROOT)("of another user's command, which may not open the file", () => {
    const other = "setpriv --reuid=65534 --clear-groups";
    return expectNothing(`${other} sh -c 'echo x > "$spool"'`, 2, /Permission denied/);
  });

  test("of a command that a signal ends", () => {
    return expectNothing("echo all > $spool; kill -9 $$", 137, /the command failed/);
  });

  test("of a command that neither connects nor writes", () => {
    const why =
      /ended without connecting, and has written nothing into \$spool: pass it \$nbd .*, or \$spool\n/;
    return expectNothing("true", 4, why);
  });

  test("of a command that has left its file empty", () => {
    return expectNothing("echo x > $spool; : > $spool", 4, /has written nothing into \$spool/);
  });

  test("into a sink that was open before", async () => {
    await using trial = await Trial.run("FIFO", ["echo part > $spool; exit 3"], {
      args: HELD,
    });
    await trial.fails({ status: 3, message: /the command failed/, bytes: 0 });
  });
});

describe("a process that the command leaves behind", () => {
  /** Starts a shell in a session of its own. */
  const inBackground = (script: string, env = "") =>
    `${env} setsid -f sh -c '${script}' x "$spool" >&2`;

  test(
    "is waited for as long as it writes",
    async () => {
      const lines = Array.from({ length: 60 }, (_, i) => `${i + 1}\n`).join("");
      const script = "for i in $(seq 60); do echo $i >&3; sleep 0.02; done";
      await expectStreamed(inBackground(`exec 3> $1; ${script}`), Buffer.from(lines));
    },
    // Half a second in which it writes nothing is too much.
    IN_TIME,
  );

  test("truncates the stream if it does not end", async () => {
    const why =
      /the command has ended, but it has left \S+ \(\d+\) running: wait for it in the command\n/;
    await expectNothing(
      `echo part > $spool; ${inBackground("exec 3>> $1; exec sleep 300")}`,
      4,
      why,
    );
  });

  /** It has no environment by which it would be found. */
  test("truncates the stream, and is ended, if only the file tells of it", async () => {
    const script = "exec 3>> $1; touch open; exec sleep 300";
    const opened = "until [ -e open ]; do sleep 0.02; done";
    using made = await run(`echo part > $spool; ${inBackground(script, "env -i")}; ${opened}`);
    expect(made.ended.status, made.ended.stderr).toBe(4);
    const [, pid] = /it has left \S+ \((\d+)\) running/.exec(made.ended.stderr) ?? [];
    expect(pid, made.ended.stderr).toBeDefined();
    await eventually(() => !existsSync(`/proc/${pid}/exe`), "its end");
    expect(made.started).toBeFalse();
  });

  test("truncates the stream if it only has the file mapped", async () => {
    // Written once: whether the file counts as changed each time depends on when the kernel writes it to the disk.
    const map =
      "const m = Bun.mmap(process.argv[1]); m[0] = 1; console.log(process.pid); setInterval(() => m[0], 9)";
    const bun = `env -i setsid -f "${process.execPath}" -e '${map}' "$spool" > pid 2> /dev/null`;
    using made = await run(`truncate -s 1M $spool; ${bun}; until [ -s pid ]; do sleep 0.02; done`);
    process.kill(Number(made.read("pid").toString()), "SIGKILL");
    expect(made.ended.status, made.ended.stderr).toBe(4);
    expect(made.ended.stderr).toContain("it has left a process that has $spool open running");
    expect(made.started).toBeFalse();
  });

  test("cannot open the file any more when the stream is on its way", async () => {
    using folder = tempFolder();
    const sink = `pipe=exec:touch streaming; ${GATE}; cat > out`;
    const late = "until [ -e streaming ]; do sleep 0.02; done; echo late > $1 || touch gate";
    const line = `echo all > $spool; ${inBackground(late, "env -i")}`;
    const words = ["run", sink, ...HELD, "--", line];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/: cannot create \/proc\/\d+\/fd\/\d+: Is a directory\n/);
    expect(readFileSync(folder.file("out"), "utf8")).toBe("all\n");
  });
});

describe("progress", () => {
  test("shows the file grow while the command writes", async () => {
    using folder = tempFolder();
    const line = `head -c 1M /dev/zero > $spool; ${GATE}`;
    const words = ["run", OUT, ...HELD, "--progress=json", "--", line];
    await using program = startProgram(words, { cwd: folder.path });
    await program.saying(/"spooled":1048576,"phase":"holding"/);
    expect(program.stderr).toContain('"streamed":0');
    writeFileSync(folder.file("gate"), "");
    const { status, stderr } = await program.ended();
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/^nbd-streaming: 1048576 bytes .*spooled 1048576 at most.*: complete$/m);
  });

  test("does not wait for a client that is not needed", async () => {
    using folder = tempFolder();
    const line = `echo x > $spool; ${GATE}`;
    const words = ["run", OUT, ...HELD, "--progress", "--", line];
    await using program = startProgram(words, { cwd: folder.path });
    await program.saying(/holding 4.00 KiB/);
    writeFileSync(folder.file("gate"), "");
    const { stderr } = await program.ended();
    const last = stderr.split("\n").findLast((one) => one.includes("holding 4.00 KiB"));
    expect(last).not.toContain("waiting for a client");
  });
});

describe("nothing is left in the folder", () => {
  test("when the program is killed", async () => {
    using folder = tempFolder();
    mkdirSync(folder.file("spool"));
    const line = `echo x > $spool; echo written >&2; ${GATE}`;
    // A killed program leaves its private folder.
    const env = { TMPDIR: folder.path };
    const words = ["run", OUT, "spool=spool", "--hold", "--", line];
    await using program = startProgram(words, { cwd: folder.path, env });
    await program.saying(/written/);
    program.process.kill("SIGKILL");
    await program.process.exited;
    writeFileSync(folder.file("gate"), "");
    await program.ended();
    expect(readdirSync(folder.file("spool"))).toEqual([]);
    expect(existsSync(folder.file("out"))).toBeFalse();
  });

  test.skipIf(!ownMountsWork())("when it has no room, which fails the command", async () => {
    using folder = tempFolder();
    const steps =
      'mkdir full && mount -t tmpfs -o size=1M none full && "$@"; s=$?; ls full >&2; exit $s';
    const words = ["run", OUT, "spool=full", "--hold", "--", "head -c 2M /dev/zero > $spool"];
    const line = ["unshare", "-Urm", "sh", "-c", steps, "sh", ...PROGRAM, ...words];
    const child = Bun.spawn({ cmd: line, cwd: folder.path, stdio: ["ignore", "ignore", "pipe"] });
    const stderr = await new Response(child.stderr).text();
    expect(await child.exited, stderr).toBe(1);
    expect(stderr).toContain("No space left on device");
    expect(stderr).toEndWith(
      "truncated: the command failed with the stream at byte 0: see its message\n",
    );
    expect(existsSync(folder.file("out"))).toBeFalse();
  });

  test.skipIf(!STRACE_WORKS)(
    `where the file system has no files without a name ${NEEDS_STRACE}`,
    async () => {
      using folder = tempFolder();
      mkdirSync(folder.file("spool"));
      const words = [
        "run",
        OUT,
        `spool=${folder.file("spool")}`,
        "--hold",
        "--",
        "echo x > $spool",
      ];
      const fault = failing("open,openat", "EOPNOTSUPP", folder.file("spool"));
      const line = [...fault, ...PROGRAM, ...words];
      const child = Bun.spawn({ cmd: line, cwd: folder.path, stdio: ["ignore", "ignore", "pipe"] });
      const stderr = await new Response(child.stderr).text();
      expect(await child.exited, stderr).toBe(0);
      expect(readFileSync(folder.file("out"), "utf8")).toBe("x\n");
      expect(readdirSync(folder.file("spool"))).toEqual([]);
    },
  );
});

test("nobody can give the file a name, by which it could be changed while it goes out", async () => {
  await expectNothing(
    "echo x > $spool && ln -L $spool name 2>&1",
    1,
    /truncated: the command failed /,
  );
});

describe("several streams", () => {
  const EACH = ["-e", "vda", "pipe=exec:cat > a", "-e", "vdb", "pipe=exec:cat > b"];

  test("have a file each", async () => {
    using folder = tempFolder();
    const words = ["run", ...HELD, ...EACH, "--", "echo a > $spool_vda; echo bb > ${spool_vdb}"];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status, stderr).toBe(0);
    expect(["a", "b"].map((name) => readFileSync(folder.file(name), "utf8"))).toEqual([
      "a\n",
      "bb\n",
    ]);
  });

  test("are told apart when one gets nothing", async () => {
    using folder = tempFolder();
    const words = ["run", ...HELD, ...EACH, "--", "echo a > $spool_vda"];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status).toBe(4);
    expect(stderr).toMatch(/vda: 2 bytes .*: complete\n/);
    expect(stderr).toMatch(
      /vdb: .*without a client of this stream, and has written nothing into \$spool_vdb/,
    );
    expect(existsSync(folder.file("b"))).toBeFalse();
  });

  test("need not all be held", async () => {
    using folder = tempFolder();
    const own = ["-e", "vda", "pipe=exec:cat > a", ...HELD, "-e", "vdb", "pipe=exec:cat > b"];
    const line = "cp $0 $spool_vda && qemu-io -f raw -c 'write 0 4k' $nbd_vdb >&2";
    const words = ["run", ...own, "--", line.replace("$0", DISK)];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status, stderr).toBe(0);
    expect(readFileSync(folder.file("a")).equals(readFileSync(DISK))).toBeTrue();
    expect(statSync(folder.file("b")).size).toBe(4096);
  });
});

describe("a command that wants $spool", () => {
  const refused = async (...words: string[]) => {
    using folder = tempFolder();
    const { status, stderr } = await runProgram(["run", "pipe=x", ...words], { cwd: folder.path });
    expect(status, stderr).toBe(2);
    expect(readdirSync(folder.path)).toEqual([]);
    return stderr.replace("nbd-streaming: error: ", "").trimEnd();
  };
  const NOT_HELD =
    "$spool is the file of a stream that is held back: use --hold with spool=DIR, a folder with room for it";

  test.each([
    [["--", "mkfs.ext4", "$spool"]],
    [["spool=.", "--", "qemu-img", "convert", "-O", "vmdk", "a", "${spool}"]],
    [["spool=.", "--", 'truncate -s 1G "$spool"']],
    [["spool=.", "--", "sh", "-c", 'truncate -s 1G "$spool"']],
  ])("is told of --hold: %j", async (words) => {
    expect(await refused(...words)).toBe(NOT_HELD);
  });

  test("is told which of several", async () => {
    const both = [...HELD, "-e", "vda", "-e", "vdb", "pipe=y"];
    expect(await refused(...both, "--", "cp a $spool")).toContain("write $spool_NAME");
    expect(await refused(...both, "--", "cp", "a", "$spool_vdx")).toContain("$spool_vdx");
    const one = ["-e", "vda", ...HELD, "-e", "vdb", "pipe=y"];
    expect(await refused(...one, "--", "cp", "a", "$spool_vdb")).toContain(NOT_HELD.slice(6));
  });

  test.each([
    "for spool in 1; do echo $spool; done",
    "spool=1; echo $spool",
    "read spool < x; echo $spool",
  ])("may mean a variable of its own: %s", async (line) => {
    using folder = tempFolder();
    const words = ["run", OUT, "--", `${line}; exit 9`];
    expect((await runProgram(words, { cwd: folder.path })).status).toBe(9);
  });
});

test("a program gets $spool by the library", async () => {
  const { run: stream } = await import("../../src/index.ts");
  using folder = tempFolder();
  const out = folder.file("out");
  const options = { pipe: `exec:cat > ${out}`, spool: folder.path, command: "echo x > $spool" };
  const unheld = stream(options).then(() => "complete", String);
  expect(await unheld).toContain("use hold: true with spool");
  const { bytes } = await stream({ ...options, hold: true });
  expect(bytes).toBe(2);
  expect(readFileSync(join(folder.path, "out"), "utf8")).toBe("x\n");
});
