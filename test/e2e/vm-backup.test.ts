/** `examples/vm-backup` with a real machine, whose guest writes meanwhile. */
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { binFolder, documentedBlock } from "../support/documented.ts";
import { LIMIT } from "../support/limit.ts";
import { MACHINE_NEEDS } from "../support/machine.ts";
import { ModelledMachine } from "../support/machine-disks.ts";
import { command, type Ended, eventually, ROOT, type Running, start } from "../support/program.ts";
import { type Interfere, QmpProxy } from "../support/qmp-proxy.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const SIZES = { vda: 4 * MiB, vdb: 2 * MiB };
const DISKS = ["vda", "vdb"] as const;
const PROGRAM = join(ROOT, "examples/vm-backup");
const MISSING = [...MACHINE_NEEDS, "python3"].filter((tool) => Bun.which(tool) === null);
const why = MISSING.length > 0 ? ` (needs ${MISSING.join(", ")})` : "";

/** What has a name only if it has read the whole disk. */
const STORE =
  'cat > "$NBD_STREAMING_EXPORT.part" && mv "$NBD_STREAMING_EXPORT.part" "$NBD_STREAMING_EXPORT.raw"';

/** Also waits, when it has begun, until there is a file. */
const STORE_LATER = `: > "$NBD_STREAMING_EXPORT.begun"; until [ -e go ]; do sleep 0.02; done; ${STORE}`;

/** Commands before the streams, the how many'th of its name each, and those behind them. */
const BEGIN = [
  ["query-block", 1],
  ["blockdev-add", 1],
  ["blockdev-add", 2],
  ["nbd-server-start", 1],
  ["transaction", 1],
  ["block-export-add", 1],
  ["block-export-add", 2],
] as const;
const END = [
  ["nbd-server-stop", 1],
  ["block-job-cancel", 1],
  ["blockdev-del", 1],
] as const;

const folder = tempFolder();
const here = folder.file("here");
const scratch = folder.file("a scratch");
let python: string;
let env: Record<string, string>;
let guest: ModelledMachine;
let proxy: QmpProxy;
let untouched: unknown;
/** The commands that the latest `when` has seen. */
const seen: Parameters<Interfere>[] = [];

if (why === "") {
  beforeAll(async () => {
    for (const path of [scratch, folder.file("a tmp")]) mkdirSync(path);
    binFolder(folder.file("bin"));
    env = { PATH: `${folder.file("bin")}:${process.env.PATH}`, TMPDIR: folder.file("a tmp") };
    python = (await command(["python3", "-c", "import sys; print(sys.executable)"])).trim();
    await Bun.$`mkdir ${here} && qemu-img create -q -f qcow2 ${here}/vdc.qcow2 1M`;
    guest = await ModelledMachine.start(here, SIZES, [
      ...[
        "-blockdev",
        "driver=qcow2,node-name=vdc,read-only=on,file.driver=file,file.filename=vdc.qcow2",
      ],
      ...["-device", "virtio-blk-pci,drive=vdc", "-device", "ide-cd"],
      ...["-qmp", "unix:third.sock,server=on,wait=off"],
      ...["-monitor", "unix:human.sock,server=on,wait=off"],
    ]);
    proxy = await QmpProxy.listen(join(here, "proxy.sock"), join(here, "qmp.sock"));
    for (const disk of DISKS) await guest.write(disk, MiB / 2, MiB, 1);
    untouched = await parts();
  });
  afterAll(async () => {
    proxy[Symbol.dispose]();
    await guest[Symbol.asyncDispose]();
  });
  afterEach(() => {
    proxy.interfere = () => undefined;
    for (const name of readdirSync(here)) {
      if (/\.(?:raw|part|begun)$|^go$/.test(name)) rmSync(join(here, name));
    }
  });
}
afterAll(() => folder[Symbol.dispose]());

/** What the machine has, whoever has made it. */
async function parts(): Promise<unknown> {
  type Found = Record<string, unknown>[];
  const { qmp } = guest.machine;
  const nodes = await qmp.execute<Found>("query-named-block-nodes");
  const kept = ["node-name", "drv", "file", "ro", "dirty-bitmaps", "active"];
  return {
    nodes: nodes.map((node) => kept.map((key) => node[key])),
    jobs: await qmp.execute("query-jobs"),
    exports: await qmp.execute("query-block-exports"),
  };
}

/** Expects nothing to be left, and the guest to write on. */
async function expectNothingLeft(): Promise<void> {
  expect(await parts()).toEqual(untouched);
  const stop = guest.machine.qmp.execute("nbd-server-stop").catch(String);
  expect(await stop).toContain("NBD server not running");
  expect(readdirSync(scratch)).toEqual([]);
  for (const disk of DISKS) expect((await guest.write(disk, 0, 65536, 3)).failed).toBeFalse();
}

function backup(
  words: readonly string[],
  { monitor = "proxy.sock", program = PROGRAM } = {},
): Running {
  const line = [python, program, "--scratch", scratch, monitor, ...words];
  return start(line, { cwd: here, env, group: true });
}

/** Does something when QEMU has executed a command, before the program gets the answer. */
function when(name: string, count: number, executed: () => Promise<unknown> | void): void {
  seen.length = 0;
  proxy.interfere = (...found) => {
    seen.push(found);
    return found[0] === name && found[1] === count ? { executed } : undefined;
  };
}

/** Waits until both commands have begun. */
async function begun(): Promise<void> {
  for (const disk of DISKS) {
    await eventually(() => existsSync(join(here, `${disk}.begun`)), `the command for ${disk}`);
  }
}

const stored = () => readdirSync(here).filter((name) => name.endsWith(".raw"));

function expectImages(then: Record<string, Buffer>): void {
  for (const disk of DISKS) {
    expect(readFileSync(join(here, `${disk}.raw`)).equals(then[disk] as Buffer)).toBeTrue();
  }
}

describe.skipIf(why !== "")(`vm-backup${why}`, () => {
  test("stores each disk that can be written, as it was at the instant", async () => {
    let then: Record<string, Buffer> = {};
    when("transaction", 1, async () => {
      then = guest.instant();
      for (const disk of DISKS) await guest.write(disk, MiB, 65536, 4);
    });
    await using running = backup([`echo $NBD_STREAMING_SIZE >&2; ${STORE_LATER}`, "-q"]);
    await begun();
    for (const disk of DISKS) {
      await guest.write(disk, 0, MiB, 5);
      await guest.write(disk, MiB + MiB / 2, 65536, 6);
    }
    writeFileSync(join(here, "go"), "");
    const { status, stderr } = await running.ended();
    expect(stderr.split("\n").toSorted()).toEqual(["", "2097152", "4194304"]);
    expect(status).toBe(0);
    expect(stored().toSorted()).toEqual(["vda.raw", "vdb.raw"]);
    expectImages(then);
    await expectNothingLeft();
  });

  test.each([...BEGIN, ...END])(
    "removes all when it is terminated in %s (%d)",
    async (name, count) => {
      const begins = BEGIN.some(([other]) => other === name);
      let running: Running | undefined;
      when(name, count, () => running?.process.kill("SIGTERM"));
      await using _ = (running = backup([STORE, "-q"]));
      // In the middle of its end the streams are complete.
      expect((await running.ended()).status).toBe(begins ? 143 : 0);
      expect(stored()).toHaveLength(begins ? 0 : 2);
      const done = seen.filter(([other]) => BEGIN.some(([one]) => one === other));
      expect(done.at(-1)).toEqual(begins ? [name, count] : ["block-export-add", 2]);
      await expectNothingLeft();
    },
  );

  test.each([...BEGIN, ...END])(
    "removes what is left by one that is killed in %s (%d)",
    async (name, count) => {
      {
        let running: Running | undefined;
        when(name, count, async () => {
          running?.process.kill("SIGKILL");
          await running?.process.exited;
        });
        await using _ = (running = backup([STORE, "-q"]));
        expect((await running.ended()).status).toBe(137);
      }
      proxy.interfere = () => undefined;
      await using cleaning = backup(["--clean"]);
      const { status, stderr } = await cleaning.ended();
      expect(stderr).toMatch(
        /^vm-backup: removed what a killed one had left in .*\/vm-backup-\w+\n$/,
      );
      expect(status).toBe(0);
      await expectNothingLeft();
    },
  );

  test.each(BEGIN)("removes all when QEMU refuses %s (%d)", async (name, count) => {
    proxy.interfere = (...found) =>
      found[0] === name && found[1] === count ? { refuse: "no" } : undefined;
    await using running = backup([STORE, "-q"]);
    const { status, stderr } = await running.ended();
    expect(stderr).toBe(`vm-backup: proxy.sock: ${name}: no\n`);
    expect(status).toBe(1);
    expect(stored()).toEqual([]);
    await expectNothingLeft();
  });

  test("asks again if QEMU refuses to remove something", async () => {
    const names: string[] = END.map(([name]) => name);
    proxy.interfere = (name, count) =>
      names.includes(name) && count < 3 ? { refuse: "not yet" } : undefined;
    await using running = backup([STORE, "-q"]);
    expect((await running.ended()).status).toBe(0);
    await expectNothingLeft();
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("ends the streams by %s, and removes all", async (signal, expected) => {
    await using running = backup([STORE_LATER, "-q"]);
    await begun();
    running.process.kill(signal);
    expect((await running.ended()).status).toBe(expected);
    writeFileSync(join(here, "go"), "");
    expect(stored()).toEqual([]);
    await expectNothingLeft();
  });

  test("takes its streams along when it is killed; the next one removes the rest", async () => {
    {
      await using running = backup([STORE_LATER, "-q"]);
      await begun();
      running.process.kill("SIGKILL");
      // Others have its standard error until they have ended, too.
      expect((await running.ended()).status).toBe(137);
    }
    for (const disk of DISKS) expect((await guest.write(disk, 0, 65536, 7)).failed).toBeFalse();
    writeFileSync(join(here, "go"), "");
    expect(stored()).toEqual([]);
    await using next = backup([STORE, "-q"]);
    const { status, stderr } = await next.ended();
    expect(stderr).toMatch(/^vm-backup: removed what a killed one had left in .*\n$/);
    expect(status).toBe(0);
    expectImages(guest.instant());
    await expectNothingLeft();
  });

  test("removes what a killed one has left in another folder", async () => {
    const other = folder.file("other");
    mkdirSync(other);
    {
      await using running = backup([STORE_LATER, "-q", "--scratch", other]);
      await begun();
      running.process.kill("SIGKILL");
      await running.ended();
    }
    expect(readdirSync(other)).toHaveLength(1);
    await using cleaning = backup(["--clean"]);
    expect((await cleaning.ended()).status).toBe(0);
    expect(readdirSync(other)).toEqual([]);
    await expectNothingLeft();
  });

  test("removes what a killed one has left in the machine when its folder is gone", async () => {
    {
      await using running = backup([STORE_LATER, "-q"]);
      await begun();
      running.process.kill("SIGKILL");
      await running.ended();
    }
    for (const name of readdirSync(scratch)) rmSync(join(scratch, name), { recursive: true });
    writeFileSync(join(here, "go"), "");
    await using cleaning = backup(["--clean"]);
    expect(await cleaning.ended()).toEqual({ status: 0, stderr: "", stdout: "" });
    await expectNothingLeft();
  });

  test.skipIf(process.getuid?.() !== 0)(
    "leaves a server alone in a folder of its name that is somebody else's (needs root)",
    async () => {
      let name = "";
      when("query-block", 1, () => {
        name = readdirSync(scratch)[0] as string;
      });
      await using first = backup([STORE, "-q"]);
      expect((await first.ended()).status).toBe(0);
      const theirs = join(scratch, name);
      mkdirSync(theirs);
      chownSync(theirs, 65534, 65534);
      const addr = { type: "unix", data: { path: join(theirs, "nbd.sock") } };
      await guest.machine.qmp.execute("nbd-server-start", { addr });
      for (const words of [[STORE, "-q"], ["--clean"]]) {
        await using running = backup(words);
        const { status, stderr } = await running.ended();
        expect(stderr).toBe(`vm-backup: proxy.sock: ${theirs} belongs to somebody else\n`);
        expect(status).toBe(1);
      }
      await guest.machine.qmp.execute("nbd-server-stop");
      rmSync(theirs, { recursive: true });
      await expectNothingLeft();
    },
  );

  test.each([
    ["transaction", 0],
    ["block-export-add", 5],
    ["nbd-server-stop", 5],
    ["blockdev-del", 0],
  ] as const)(
    "fails and says what to do when the monitor hangs up in %s, after %d characters",
    async (name, cut) => {
      proxy.interfere = (...found) => (found[0] === name && found[1] === 1 ? { cut } : undefined);
      await using running = backup([STORE, "-q"]);
      const { status, stderr } = await running.ended();
      expect(stderr).toBe("vm-backup: proxy.sock: has hung up: --clean removes the rest\n");
      expect(status).toBe(1);
      proxy.interfere = () => undefined;
      await using cleaning = backup(["--clean"]);
      expect((await cleaning.ended()).status).toBe(0);
      await expectNothingLeft();
    },
  );

  test("refuses a --scratch in which no socket can be", async () => {
    const long = folder.file("x".repeat(90));
    mkdirSync(long);
    await using running = backup([STORE, "--scratch", long]);
    const { status, stderr } = await running.ended();
    expect(stderr).toBe("vm-backup: proxy.sock: --scratch: the path is too long\n");
    expect(status).toBe(1);
    expect(readdirSync(long)).toEqual([]);
    await expectNothingLeft();
  });

  test("refuses a monitor for people", async () => {
    await using running = backup([STORE], { monitor: "human.sock" });
    const { status, stderr } = await running.ended();
    expect(stderr).toBe("vm-backup: human.sock: is no QMP monitor\n");
    expect(status).toBe(1);
  });

  test.each(["true", "head -c 1 > /dev/null", "exec <&-; sleep 1"])(
    "fails if the command has not read all: %s",
    async (line) => {
      await using running = backup([line]);
      expect((await running.ended()).status).not.toBe(0);
      await expectNothingLeft();
    },
  );

  test("has the exit status of nbd-streaming when a command fails", async () => {
    await using running = backup(['[ "$NBD_STREAMING_EXPORT" = vda ] || exit 7; ' + STORE]);
    const { status, stderr } = await running.ended();
    expect(stderr).toContain("it failed with status 7");
    expect(status).not.toBe(0);
    expect(stored()).toEqual([]);
    await expectNothingLeft();
  });

  test("refuses to begin while another is under way, by the same monitor or another", async () => {
    await using first = backup([STORE_LATER, "-q"]);
    await begun();
    const then = guest.instant();
    const others = ["proxy.sock", "third.sock"].map((monitor) =>
      backup([STORE, "-q"], { monitor }),
    );
    const [same, third] = (await Promise.all(others.map((other) => other.ended()))) as [
      Ended,
      Ended,
    ];
    expect(same.stderr).toBe(
      "vm-backup: proxy.sock: does not answer: another backup or program may use it\n",
    );
    expect(third.stderr).toBe(
      "vm-backup: third.sock: nbd-server-start: NBD server already running\n",
    );
    expect([same.status, third.status]).toEqual([1, 1]);
    writeFileSync(join(here, "go"), "");
    expect((await first.ended()).status).toBe(0);
    expectImages(then);
    await expectNothingLeft();
  });

  describe("leaves what others have alone", () => {
    const job = { "job-id": "theirs", target: "theirs", sync: "none" };

    beforeEach(async () => {
      for (const [name, size] of [
        ["their-disk", MiB],
        ["theirs", MiB],
      ] as const) {
        const node = { driver: "null-co", "node-name": name, size };
        await guest.machine.qmp.execute("blockdev-add", node);
      }
      await guest.machine.qmp.execute("blockdev-backup", { device: "their-disk", ...job });
    });

    afterEach(async () => {
      const { qmp } = guest.machine;
      await qmp.execute("block-job-cancel", { device: "theirs" });
      await qmp.event("BLOCK_JOB_CANCELLED", { device: "theirs" });
      for (const name of ["theirs", "their-disk"]) {
        await qmp.execute("blockdev-del", { "node-name": name });
      }
      await expectNothingLeft();
    });

    async function expectLeft(status: number, message: string): Promise<void> {
      const before = await parts();
      await using running = backup([STORE, "-q"]);
      expect(await running.ended()).toEqual({ status, stderr: message, stdout: "" });
      expect(await parts()).toEqual(before);
      expect(readdirSync(scratch)).toEqual([]);
    }

    test("such as nodes and a job", () => expectLeft(0, ""));

    test("such as a server and an export, with which it does not begin", async () => {
      const { qmp } = guest.machine;
      const addr = { type: "unix", data: { path: "theirs.sock" } };
      await qmp.execute("nbd-server-start", { addr });
      await qmp.execute("block-export-add", { type: "nbd", id: "theirs", "node-name": "theirs" });
      await expectLeft(1, "vm-backup: proxy.sock: nbd-server-start: NBD server already running\n");
      await qmp.execute("nbd-server-stop");
    });

    test("such as a backup of a disk, with which it does not begin", async () => {
      const { qmp } = guest.machine;
      const node = { driver: "null-co", "node-name": "third", size: SIZES.vdb };
      await qmp.execute("blockdev-add", node);
      const third = { ...job, "job-id": "third", device: "vdb", target: "third" };
      await qmp.execute("blockdev-backup", third);
      const before = await parts();
      await using running = backup([STORE, "-q"]);
      const { status, stderr } = await running.ended();
      expect(stderr).toMatch(
        /^vm-backup: proxy.sock: transaction: .* is in use by block job: backup\n$/,
      );
      expect(status).toBe(1);
      expect(await parts()).toEqual(before);
      await qmp.execute("block-job-cancel", { device: "third" });
      await qmp.event("BLOCK_JOB_CANCELLED", { device: "third" });
      await qmp.execute("blockdev-del", { "node-name": "third" });
    });
  });

  test("fails if somebody has ended a job, as the disk was not of the instant", async () => {
    await using running = backup([STORE_LATER, "-q"]);
    await begun();
    const [job] = await guest.machine.qmp.execute<{ id: string }[]>("query-jobs");
    await guest.machine.qmp.execute("block-job-cancel", { device: job?.id });
    writeFileSync(join(here, "go"), "");
    const { status, stderr } = await running.ended();
    expect(stderr).toContain("somebody has ended QEMU's jobs");
    expect(status).toBe(1);
    await expectNothingLeft();
  });

  describe("with what its page has for frozen file systems", () => {
    const [program, log] = [folder.file("frozen"), folder.file("log")];

    beforeAll(() => {
      const { text } = documentedBlock("examples/README.md", "freeze");
      const [removed, added] = ["-", "+"].map((sign) => {
        const lines = text.split("\n").filter((line) => line.startsWith(sign));
        return lines.map((line) => `${line.slice(1)}\n`).join("");
      }) as [string, string];
      const whole = readFileSync(PROGRAM, "utf8");
      expect(whole.split(removed)).toHaveLength(2);
      writeFileSync(program, whole.replace(removed, added));
      for (const name of ["freeze", "thaw"]) {
        const line = `#!/bin/sh\necho ${name} >> ${log}\n`;
        writeFileSync(folder.file(`bin/${name}`), line, { mode: 0o755 });
      }
    });
    beforeEach(() => rmSync(log, { force: true }));

    test("freezes before the instant, and thaws behind it", async () => {
      let frozen = "";
      when("transaction", 1, () => {
        frozen = readFileSync(log, "utf8");
      });
      await using running = backup([STORE, "-q"], { program });
      expect((await running.ended()).status).toBe(0);
      expect(frozen).toBe("freeze\n");
      expect(readFileSync(log, "utf8")).toBe("freeze\nthaw\n");
      await expectNothingLeft();
    });

    test("thaws if there is no backup", async () => {
      proxy.interfere = (name) => (name === "transaction" ? { refuse: "no" } : undefined);
      await using running = backup([STORE, "-q"], { program });
      expect((await running.ended()).status).toBe(1);
      expect(readFileSync(log, "utf8")).toBe("freeze\nthaw\n");
      await expectNothingLeft();
    });
  });

  test("needs a command", async () => {
    await using running = backup([]);
    const { status, stderr } = await running.ended();
    expect(stderr).toContain("COMMAND is missing");
    expect(status).toBe(2);
  });

  // The last one: there is no machine any more.
  test("removes its files when the machine dies", async () => {
    await using running = backup([STORE_LATER, "-q"]);
    await begun();
    await guest.machine.kill();
    writeFileSync(join(here, "go"), "");
    expect((await running.ended()).status).not.toBe(0);
    expect(stored()).toEqual([]);
    expect(readdirSync(scratch)).toEqual([]);
  });
});
