/** What becomes of a stream whose spool fails, is full, or cannot be used: no false success, and nothing left. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { mkfifo } from "../../ffi/pipe.ts";
import { NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from "../../src/protocol/constants.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { AS_NOBODY, noNobody } from "../support/nobody.ts";
import type { RawClient } from "../support/nbd-client.ts";
import { bounded, eventually, PROGRAM, start } from "../support/program.ts";
import { failNow, NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import {
  HALF,
  HOLD,
  MARKED,
  MODES,
  spoolPath,
  SPOOL,
  syncAll,
  wasStarted,
  writeAhead,
  writePart,
} from "../support/spooled.ts";
import { tempFolder } from "../support/temp.ts";
import { DATA, ERROR, GATE, Trial } from "../support/trial.ts";
import { waitingAt } from "../support/waiting.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const COMMITS = { exec: MARKED } as const;

/** A tmpfs of so many bytes at a folder of its own; undefined where it cannot be mounted. `using` unmounts it. */
function small(bytes: number): (Disposable & { readonly path: string }) | undefined {
  const folder = tempFolder();
  const words = ["mount", "-t", "tmpfs", "-o", `size=${bytes}`, "nbd-streaming-test", folder.path];
  if (process.getuid?.() !== 0 || !Bun.spawnSync(words).success) {
    folder[Symbol.dispose]();
    return undefined;
  }
  return {
    path: folder.path,
    [Symbol.dispose]() {
      Bun.spawnSync(["umount", "-l", folder.path]);
      folder[Symbol.dispose]();
    },
  };
}

const noMount = (() => {
  using mounted = small(MiB);
  return mounted === undefined;
})();
const NEEDS_MOUNT = "(skipped where nothing can be mounted)";

/** The options of a mode, with another folder. */
function inFolder(args: readonly string[], path: string): string[] {
  return args.map((word) => (word.startsWith("spool=") ? `spool=${path}` : word));
}

/** Waits until a file system is as empty as it was. */
async function emptied(path: string, free: number): Promise<void> {
  await eventually(() => statfsSync(path).bfree >= free, "the room to be given back");
}

const FULL =
  /truncated: spool=\S+ has no room for more, with ([0-9]+) bytes in it and the stream at byte ([0-9]+) \((?:pwrite|splice|fallocate): No space left on device\): name a folder with more room$/;

describe.skipIf(noMount)(`a folder without room ${NEEDS_MOUNT}`, () => {
  const ways: { way: string; fill(client: RawClient): Promise<number> }[] = [
    { way: "small WRITEs", fill: (client) => writeAhead(client, 4 * KiB) },
    { way: "WRITEs that are spliced", fill: (client) => writeAhead(client, MiB) },
    {
      way: "one large WRITE",
      async fill(client) {
        client.send(encodeWrite(HALF, DATA.subarray(HALF)));
        return (await client.reply()).error;
      },
    },
  ];

  describe.each(MODES)("of $mode", ({ args }) => {
    test.each(ways)(
      "is ENOSPC to $way, and to what comes then",
      async ({ fill }) => {
        using folder = small(2 * MiB) as NonNullable<ReturnType<typeof small>>;
        const { bfree } = statfsSync(folder.path);
        await using trial = await Trial.serve(COMMITS, { args: inFolder(args, folder.path) });
        using client = await trial.client();
        expect(await fill(client)).toBe(ERROR.ENOSPC);
        expect(await client.write(0, DATA.subarray(0, 4 * KiB))).toBe(ERROR.ENOSPC);
        expect(await client.writeZeroes(8 * KiB, 4 * KiB)).toBe(ERROR.ENOSPC);
        expect(await client.flush()).toBe(ERROR.ENOSPC);
        client.disconnect();
        await trial.fails({ status: 4, message: FULL, bytes: 0 });
        const [, spooled] =
          FULL.exec(trial.program.stderr.trimEnd().split("\n").at(-1) ?? "") ?? [];
        // Some of it belongs to the file system itself.
        expect(Number(spooled)).toBeGreaterThan(1.5 * MiB);
        expect(Number(spooled)).toBeLessThanOrEqual(2 * MiB);
        if (args === HOLD) expect(wasStarted(trial)).toBeFalse();
        await emptied(folder.path, bfree);
      },
      // A client has not for long to ask again once the stream is broken.
      IN_TIME,
    );

    test(
      "is ENOSPC to all of several connections in the middle of a WRITE",
      async () => {
        using folder = small(2 * MiB) as NonNullable<ReturnType<typeof small>>;
        await using trial = await Trial.serve(COMMITS, { args: inFolder(args, folder.path) });
        using first = await trial.client();
        using second = await trial.client();
        using third = await trial.client();
        const [a, b, half] = [HALF, HALF + 3 * MiB, HALF + 1.5 * MiB];
        first.send(encodeRequest(NBD_CMD_WRITE, a, 3 * MiB), DATA.subarray(a, half));
        second.send(encodeRequest(NBD_CMD_WRITE, b, MiB), DATA.subarray(b, b + 5000));
        await trial.settled();
        third.send(encodeWrite(2 * MiB, DATA.subarray(2 * MiB, 3 * MiB)));
        first.send(DATA.subarray(half, b));
        second.send(DATA.subarray(b + 5000, b + MiB));
        for (const client of [first, second, third]) {
          expect((await client.reply()).error).toBe(ERROR.ENOSPC);
          client.disconnect();
        }
        await trial.fails({ status: 4, message: FULL, bytes: 0 });
      },
      IN_TIME,
    );
  });

  test(
    "is ENOSPC to WRITE_ZEROES that are to have room",
    async () => {
      using folder = small(2 * MiB) as NonNullable<ReturnType<typeof small>>;
      const { bfree } = statfsSync(folder.path);
      await using trial = await Trial.serve(COMMITS, { args: inFolder(HOLD, folder.path) });
      using client = await trial.client();
      const NO_HOLE = 2;
      client.send(encodeRequest(NBD_CMD_WRITE_ZEROES, 0, 4 * MiB, { flags: NO_HOLE }));
      expect((await client.reply()).error).toBe(ERROR.ENOSPC);
      expect(await client.write(0, DATA.subarray(0, 4 * KiB))).toBe(ERROR.ENOSPC);
      client.disconnect();
      await trial.fails({ status: 4, message: FULL, bytes: 0 });
      expect(wasStarted(trial)).toBeFalse();
      await emptied(folder.path, bfree);
    },
    IN_TIME,
  );

  test("after what has been streamed is told with where the stream stood", async () => {
    using folder = small(2 * MiB) as NonNullable<ReturnType<typeof small>>;
    await using trial = await Trial.serve(COMMITS, { args: inFolder(SPOOL, folder.path) });
    using client = await trial.client();
    expect(await writePart(client, 0, MiB)).toBe(0);
    expect(await writeAhead(client)).toBe(ERROR.ENOSPC);
    await trial.fails({ status: 4, message: FULL, bytes: MiB });
  });

  test("fails the command of run, too, and its stream", async () => {
    using folder = small(2 * MiB) as NonNullable<ReturnType<typeof small>>;
    const args = inFolder(HOLD, folder.path);
    const line = `qemu-io -f raw -c 'write 0 1M' -c 'write 2M 4M' "$uri" || :`;
    await using trial = await Trial.run(COMMITS, [line], { args });
    await trial.fails({ status: 4, message: FULL, bytes: 0 });
    expect(wasStarted(trial)).toBeFalse();
  });
});

const TOO_LONG =
  /truncated: spool=\S+ takes no file that reaches so far, with [0-9]+ bytes in it and the stream at byte 0 \((pwrite|splice): File too large\): give a smaller size=, name a folder on another file system, such as XFS, or raise ulimit -f$/;

/** Far more than ext4 takes, and less than XFS and tmpfs do. */
const FAR = 2n ** 63n - 2n ** 31n;

/** Files may be that long where the tests have their folders. */
const reachesFar = (() => {
  using folder = tempFolder();
  const path = folder.file("far");
  return Bun.spawnSync(["truncate", "-s", `${FAR}`, path], { stderr: "ignore" }).success;
})();

describe.each(MODES)("a file of $mode that must not grow any more", ({ args }) => {
  test(
    "is ENOSPC to the client, and kills nobody",
    async () => {
      // Shells count it in half or in whole KiB, and the program tries the folder at 16 MiB.
      const size = 64 * MiB;
      const own = args.map((word) => (word.startsWith("size=") ? `size=${size}` : word));
      await using trial = await Trial.serve(COMMITS, { args: own, shell: "ulimit -f 40000; " });
      using client = await trial.client();
      expect(await client.write(size - MiB, DATA.subarray(0, MiB))).toBe(ERROR.ENOSPC);
      expect(await client.write(0, DATA.subarray(0, 512))).toBe(ERROR.ENOSPC);
      client.disconnect();
      await trial.fails({ status: 4, message: TOO_LONG, bytes: 0 });
    },
    IN_TIME,
  );

  test.skipIf(reachesFar)(
    "because its file system has no larger ones is ENOSPC to the client (skipped where it has)",
    async () => {
      const endless = args.filter((word) => !word.startsWith("size="));
      await using trial = await Trial.serve(COMMITS, { args: endless });
      using client = await trial.client();
      expect(await client.write(FAR, DATA.subarray(0, 4 * KiB))).toBe(ERROR.ENOSPC);
      client.disconnect();
      await trial.fails({ status: 4, message: TOO_LONG, bytes: 0 });
    },
  );
});

describe.skipIf(!STRACE_WORKS)(`calls on the spool that fail ${NEEDS_STRACE}`, () => {
  /** Lets calls of the running program on its spool fail. */
  const fail = async (trial: Trial, fault: string) => {
    const { pid } = trial.program.process;
    return await failNow(pid, fault, await spoolPath(pid, trial.ownFile("").replace(/\/$/, "")));
  };
  const failed = (call: string) =>
    new RegExp(
      `truncated: spool=\\S+ failed with [0-9]+ bytes in it and the stream at byte [0-9]+: ${call}: Input/output error; see to its disk, or name another folder$`,
    );

  describe.each(MODES)("with $mode", ({ args }) => {
    test.each([
      { call: "pwrite64", says: "pwrite", piece: 4 * KiB, when: "1+" },
      { call: "pwrite64", says: "pwrite", piece: 4 * KiB, when: "500" },
      { call: "splice", says: "splice", piece: MiB, when: "1+" },
      { call: "splice", says: "splice", piece: MiB, when: "7" },
      { call: "sync_file_range", says: "sync_file_range", piece: MiB, when: "1" },
    ])(
      "while a client writes: $call, number $when, in WRITEs of $piece",
      async ({ call, says, piece, when }) => {
        await using trial = await Trial.serve(COMMITS, { args });
        using client = await trial.client();
        // Without --hold it is started at once, but has to get to its first step.
        if (args === SPOOL) await eventually(() => wasStarted(trial), "the command");
        await using _ = await fail(trial, `${call}:error=EIO:when=${when}`);
        expect(await writeAhead(client, piece)).toBe(ERROR.EIO);
        expect(await client.write(0, DATA.subarray(0, 512))).toBe(ERROR.EIO);
        client.disconnect();
        await trial.fails({ status: 4, message: failed(says), bytes: 0 });
        expect(wasStarted(trial)).toBe(args === SPOOL);
      },
      IN_TIME,
    );

    test("while a client writes, the last one of all", async () => {
      await using trial = await Trial.serve(COMMITS, { args });
      using client = await trial.client();
      expect(await writePart(client, HALF, DATA.length - 512)).toBe(0);
      await using _ = await fail(trial, "pwrite64:error=EIO");
      expect(await writePart(client, DATA.length - 512, DATA.length)).toBe(ERROR.EIO);
      client.disconnect();
      await trial.fails({ status: 4, message: failed("pwrite"), bytes: 0 });
    });

    test("while a client reads what it has written", async () => {
      await using trial = await Trial.serve(COMMITS, { args });
      using client = await trial.client();
      expect(await writeAhead(client)).toBe(0);
      await using _ = await fail(trial, "pread64:error=EIO");
      expect(await client.read(HALF, 4 * KiB)).toBe(ERROR.EIO);
      client.disconnect();
      await trial.fails({ status: 4, message: failed("pread"), bytes: 0 });
    });

    test.each([
      { call: "splice", when: "1" },
      { call: "splice", when: "3" },
      { call: "lseek", when: "1" },
      // As at the end, where everything has gone out.
      { call: "sync_file_range", when: "1+" },
    ])("while the data goes out: $call, number $when", async ({ call, when }) => {
      await using trial = await Trial.serve(COMMITS, { args });
      using client = await trial.client();
      expect(await writeAhead(client)).toBe(0);
      expect(await writePart(client, 512, HALF)).toBe(0);
      await using _ = await fail(trial, `${call}:error=EIO:when=${when}`);
      // The first sector lets everything go with spool=; with --hold it does not.
      client.send(encodeWrite(0, DATA.subarray(0, 512)));
      client.disconnect();
      await trial.fails({ status: 4, message: failed(call) });
    });

    test("while the data goes out to a slow reader, in the middle", async () => {
      const exec = `touch started; head -c 1000000 > part; ${GATE}; cat >> part; echo yes > done`;
      await using trial = await Trial.serve({ exec }, { args });
      using client = await trial.client();
      expect(await writeAhead(client)).toBe(0);
      expect(await writePart(client, 512, HALF)).toBe(0);
      client.send(encodeWrite(0, DATA.subarray(0, 512)));
      client.disconnect();
      await eventually(() => wasStarted(trial) && trial.sink.committed === false, "the command");
      await trial.program.saying(/client 1 connected/);
      const part = trial.file("part");
      await eventually(() => Bun.file(part).size >= 1_000_000, "the first million bytes");
      await using _ = await fail(trial, "splice:error=EIO");
      trial.openGate();
      await trial.fails({ status: 4, message: failed("splice") });
    });
  });

  test("to give room back only keep the room", async () => {
    const args = [...SPOOL.slice(0, 2), `size=${3 * DATA.length}`];
    await using trial = await Trial.serve(COMMITS, { args });
    using client = await trial.client();
    await using _ = await fail(trial, "fallocate:error=ENOSPC");
    for (let n = 2; n >= 0; n--) expect(await client.write(n * DATA.length, DATA)).toBe(0);
    client.disconnect();
    await trial.completes(Buffer.concat([DATA, DATA, DATA]));
  });

  test("with --hold while a client zeroes, trims, or asks where there is data", async () => {
    for (const { fault, ask, says } of [
      {
        fault: "fallocate:error=EIO",
        says: "fallocate",
        ask: (client: RawClient) => client.writeZeroes(HALF, 64 * KiB),
      },
      {
        fault: "lseek:error=EIO",
        says: "lseek",
        ask: (client: RawClient) => client.read(HALF, 64 * KiB),
      },
    ]) {
      await using trial = await Trial.serve(COMMITS, { args: HOLD });
      using client = await trial.client();
      expect(await writeAhead(client)).toBe(0);
      await using _ = await fail(trial, fault);
      expect(await ask(client)).toBe(ERROR.EIO);
      client.disconnect();
      await trial.fails({ status: 4, message: failed(says), bytes: 0 });
      expect(wasStarted(trial)).toBeFalse();
    }
  });

  test.each(["statx", "close"])("without any harm are no failure (%s)", async (call) => {
    await using trial = await Trial.serve(COMMITS, { args: HOLD });
    using client = await trial.client();
    await using _ = await fail(trial, `${call}:error=EIO`);
    expect(await writePart(client, 0, DATA.length)).toBe(0);
    client.disconnect();
    await trial.completes(DATA);
  });
});

const noLoop = noMount || Bun.which("mkfs.ext4") === null || Bun.which("losetup") === null;

/** How a folder comes to be on another file system: the words that mount one there, with some of its options. */
const STACKED = {
  overlayfs: ["mount", "-t", "overlay", "none"],
  "fuse-overlayfs": ["fuse-overlayfs"],
} as const;

/** A folder whose files are on a disk, directly or not. */
interface OnDisk extends Disposable {
  readonly path: string;
  readonly disk: string;
}

/**
 * An ext4 on a disk that pretends to be larger than it is; undefined where there are no loop devices.
 *
 * @param stacked the file system on top of it
 */
function overcommitted(stacked: keyof typeof STACKED | "nothing"): OnDisk | undefined {
  const stack = new DisposableStack();
  const below = small(24 * MiB);
  if (below === undefined) return undefined;
  stack.use(below);
  const folder = stack.use(tempFolder());
  const image = `${below.path}/image`;
  const made = [
    ["truncate", "-s", "200M", image],
    ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", image],
    ["mount", "-o", "loop", image, folder.path],
  ].every((words) => Bun.spawnSync(words).success);
  if (!made) {
    stack.dispose();
    return undefined;
  }
  stack.defer(() => void Bun.spawnSync(["umount", "-l", folder.path]));
  const disk = folder.path;
  const path = stacked === "nothing" ? disk : overlay(STACKED[stacked], disk, stack);
  if (path !== undefined) return { path, disk, [Symbol.dispose]: () => stack.dispose() };
  stack.dispose();
  return undefined;
}

/** Mounts a file system whose files are in a folder. @returns its path; undefined where that cannot be done */
function overlay(
  mount: readonly string[],
  folder: string,
  stack: DisposableStack,
): string | undefined {
  const top = stack.use(tempFolder()).path;
  const [lower, upper, work] = ["lower", "upper", "work"].map((name) => join(folder, name));
  for (const path of [lower, upper, work]) mkdirSync(path as string);
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  const words = [...mount, "-o", options, top];
  if (Bun.which(mount[0] as string) === null || !Bun.spawnSync(words).success) return undefined;
  stack.defer(() => void Bun.spawnSync(["umount", "-l", top]));
  return top;
}

describe.skipIf(noLoop)("a disk that loses what was written (needs loop devices)", () => {
  test.each(
    MODES.flatMap((mode) => [
      { ...mode, stacked: "nothing" as const },
      { ...mode, stacked: "overlayfs" as const },
      { ...mode, stacked: "fuse-overlayfs" as const },
    ]),
  )(
    "is no complete stream, though every call has succeeded ($mode, below $stacked)",
    async ({ stacked, ...one }) => {
      using folder = overcommitted(stacked);
      if (folder === undefined) return;
      const size = 8 * DATA.length;
      const args = inFolder(one.args, folder.path).filter((word) => !word.startsWith("size="));
      await using trial = await Trial.serve(COMMITS, { args: [...args, `size=${size}`] });
      using client = await trial.client();
      let error = 0;
      for (let at = DATA.length; error === 0 && at < size; at += DATA.length) {
        error = await client.write(at, DATA);
      }
      // The kernel writes it to the disk sooner or later, and tells nobody who does not ask.
      syncAll(folder.disk);
      client.send(encodeWrite(0, DATA));
      client.disconnect();
      const whole = Buffer.concat(Array.from({ length: 8 }, () => DATA));
      const message = /truncated: spool=\S+ (has no room|failed).*(sync_file_range|fdatasync): /;
      await trial.fails({ status: 4, message, whole });
    },
  );
});

describe("a folder that cannot be used is told of at the start:", () => {
  /** Starts a stream for which a reader waits, and expects one line. */
  const refused = async (
    spool: string,
    message: RegExp,
    { before = [], hold = false }: { before?: readonly string[]; hold?: boolean } = {},
  ) => {
    using folder = tempFolder();
    chmodSync(folder.path, 0o777);
    const fifo = folder.file("disk.fifo");
    mkfifo(fifo, 0o666);
    chmodSync(fifo, 0o666);
    await using reader = await waitingAt(fifo, "write");
    const words = ["run", `pipe=${fifo}`, `spool=${spool}`, ...(hold ? ["--hold"] : [])];
    await using running = start(
      [...before, ...PROGRAM, ...words, "size=1M", "--", "sh", "-c", "touch ran"],
      // The folder of the client's socket is made by any user.
      { cwd: folder.path, env: { TMPDIR: folder.path } },
    );
    const { status, stderr } = await running.ended();
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(status).toBe(3);
    expect(existsSync(folder.file("ran"))).toBeFalse();
    // A reader that waits is let go.
    expect((await reader.ended()).stdout).toBe("");
  };
  const unusable = (why: string) =>
    new RegExp(`^nbd-streaming: error: spool=\\S+ cannot be used: ${why}`);

  test.each([false, true])("there is none (--hold: %p)", async (hold) => {
    await refused(
      "no/such/folder",
      unusable("open no/such/folder: No such file.*make the folder"),
      {
        hold,
      },
    );
  });

  test("it is a file, a pipe, or a link to nothing", async () => {
    using folder = tempFolder();
    writeFileSync(folder.file("file"), "mine");
    mkfifo(folder.file("fifo"), 0o600);
    symlinkSync("nothing", folder.file("link"));
    for (const name of ["file", "fifo", "link"]) {
      await refused(folder.file(name), unusable("open \\S+: (Not a directory|No such file)"));
    }
    expect(readFileSync(folder.file("file"), "utf8")).toBe("mine");
    expect(readdirSync(folder.path).toSorted()).toEqual(["fifo", "file", "link"]);
  });

  test.skipIf(noNobody !== undefined)(
    `it is another user's (skipped where ${noNobody ?? "nobody cannot run it"})`,
    async () => {
      using folder = tempFolder();
      chmodSync(folder.path, 0o755);
      await refused(
        folder.path,
        unusable("open \\S+: Permission denied; name a folder that you may"),
        {
          before: AS_NOBODY,
        },
      );
    },
  );

  test.skipIf(noMount)(`it is read-only, or has no room at all ${NEEDS_MOUNT}`, async () => {
    using folder = small(MiB) as NonNullable<ReturnType<typeof small>>;
    Bun.spawnSync(["sh", "-c", "cat /dev/zero > all"], { cwd: folder.path });
    await refused(
      folder.path,
      unusable("pwrite: No space left on device; name a folder with room"),
    );
    expect(readdirSync(folder.path)).toEqual(["all"]);
    Bun.spawnSync(["mount", "-o", "remount,ro", folder.path]);
    await refused(folder.path, unusable("open \\S+: Read-only file system; name a folder that"));
  });

  test("files in it must not be as large as its gaps", async () => {
    using folder = tempFolder();
    await refused(folder.path, unusable("pwrite: File too large"), {
      before: ["sh", "-c", 'ulimit -f 1000; exec "$0" "$@"'],
    });
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

test("a folder may be named by a link, and from where the program is", async () => {
  for (const hold of [[], ["--hold"]]) {
    await using trial = await Trial.run("command", [`ln -s own ../link; nbdcopy disk.raw "$uri"`], {
      args: ["spool=../own/../own", `size=${DATA.length}`, ...hold],
    });
    writeFileSync(trial.file("disk.raw"), DATA);
    await trial.completes(DATA);
  }
});

describe("SIGKILL at any moment leaves nothing, and lets no command commit", () => {
  const KILLS = 5;
  const SIZE = 512 * MiB;
  const COUNTS = { exec: "touch started; wc -c > part; echo committed > done" } as const;
  const kinds = [
    { file: "without a name", needs: "", trace: false },
    { file: `that had one for a moment ${NEEDS_STRACE}`, trace: true },
  ];

  describe.each(MODES)("with $mode", ({ args }) => {
    test.each(kinds)("with a file $file", async ({ trace }) => {
      if (trace && !STRACE_WORKS) return;
      using folder = tempFolder();
      using mounted = small(64 * MiB);
      const dir = mounted?.path ?? folder.path;
      const { bfree } = statfsSync(dir);
      const inject = "-e trace=openat -e inject=openat:error=EOPNOTSUPP";
      const line = `exec strace -D -f -qq -o /dev/null -P ${dir} ${inject} "$@"`;
      for (let i = 0; i < KILLS; i++) {
        const own = inFolder(args, dir).filter((word) => !word.startsWith("size="));
        await using trial = await Trial.serve(COUNTS, {
          args: [...own, `size=${SIZE}`, "--pad"],
          ...(trace ? { line } : {}),
        });
        const { process: program } = trial.program;
        const path = await spoolPath(program.pid, dir);
        expect(path.includes(".nbd-streaming-")).toBe(trace);
        expect(readdirSync(dir)).toEqual([]);
        using client = await trial.client();
        const writing = (async () => {
          expect(await writeAhead(client, 64 * KiB)).toBe(0);
          expect(await writePart(client, 0, HALF, 64 * KiB)).toBe(0);
          client.disconnect();
        })().catch(() => {});
        // From the first request to the end, which takes about as long.
        await Bun.sleep((400 * i) / KILLS);
        program.kill("SIGKILL");
        await bounded(program.exited, "the program to be gone");
        await eventually(() => trial.processes().length === 0, "all processes to be gone");
        await bounded(writing, "the client");
        expect(readdirSync(dir)).toEqual([]);
        if (mounted !== undefined) await emptied(dir, bfree);
        if (trial.sink.committed) expect(Number(await trial.sink.output())).toBe(SIZE);
      }
    });
  });
});
