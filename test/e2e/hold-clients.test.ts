/** Real clients of a disk, with --hold: several connections, rewrites, trims, file systems, images in two commands. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { bench, digestOf, filled, nbdcopy, qemuIo } from "../support/client-commands.ts";
import { FIO, fio, verifying } from "../support/fio.ts";
import { fragmentedImage, type Image, sparseImage } from "../support/images.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { command, type Ended, runProgram } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { KEPT, SeveralTrial } from "../support/several-trial.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disks: { readonly fragmented: Image; readonly sparse: Image };
beforeAll(async () => {
  disks = {
    fragmented: await fragmentedImage(folder.file("fragmented.qcow2")),
    sparse: await sparseImage(folder.file("sparse.qcow2")),
  };
});

/** Runs a command with a held stream, which goes into a file; the file's folder is its working directory. */
async function held(out: string, args: readonly string[]): Promise<Ended> {
  using spool = tempFolder();
  const words = ["run", `pipe=exec:cat > '${out}'`, `spool=${spool.path}`, "--hold", ...args];
  const ended = await runProgram(words, { cwd: folder.path });
  expect(ended.status, ended.stderr).toBe(0);
  return ended;
}

interface Client {
  readonly title: string;
  readonly args: () => readonly string[];
  /** SHA-256 of the stream that is to come out. */
  readonly stream: () => string;
}

const CLIENTS: readonly Client[] = [
  {
    title: "nbdcopy with four connections",
    args: () => ["--no-pad", ...nbdcopy("--connections=4", `${disks.fragmented.path}.raw`)],
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "nbdcopy with four connections in small requests",
    args: () => [
      "size=48M",
      ...nbdcopy("-C4", "--request-size=4096", "-R64", `${disks.fragmented.path}.raw`),
    ],
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "nbdcopy with four connections of a sparse disk",
    args: () => ["size=192M", ...nbdcopy("--connections=4", `${disks.sparse.path}.raw`)],
    stream: () => disks.sparse.sha256,
  },
  {
    title: "nbdcopy with four connections of a sparse disk that is zeroes already",
    args: () => [
      "size=192M",
      ...nbdcopy("-C4", "--destination-is-zero", `${disks.sparse.path}.raw`),
    ],
    stream: () => disks.sparse.sha256,
  },
  {
    title: "qemu-img bench that writes the same place again and again",
    args: () => ["size=8M", ...bench("-d", "32", "-c", "2000", "-s", "64k", "--pattern=7")],
    stream: () => digestOf(filled(7, 8 * MiB)),
  },
  {
    title: "qemu-io that writes, writes again, discards, zeroes and reads back",
    args: () => [
      "size=16M",
      ...qemuIo(
        "write -P 1 0 16M",
        "write -P 2 4M 1M",
        "discard 6M 2M",
        "write -z 9M 512k",
        "write -z -u 12M 1000k",
        "write -P 3 6500k 10k",
        "read -P 1 0 4M",
        "read -P 2 4M 1M",
        "read -P 0 9M 512k",
        "read -P 0 12M 1000k",
        "read -P 3 6500k 10k",
        "flush",
      ),
    ],
    stream: () => {
      const disk = filled(1, 16 * MiB);
      disk.fill(2, 4 * MiB, 5 * MiB);
      disk.fill(0, 6 * MiB, 8 * MiB);
      disk.fill(0, 9 * MiB, 9.5 * MiB);
      disk.fill(0, 12 * MiB, 12 * MiB + 1000 * 1024);
      disk.fill(3, 6500 * 1024, 6510 * 1024);
      return digestOf(disk);
    },
  },
  {
    title: "one command after the other",
    args: () => [
      "size=4M",
      "--",
      [
        'qemu-io -f raw -c "write -P 1 0 3M" "$nbd"',
        'qemu-io -f raw -c "read -P 1 0 3M" -c "write -P 2 1M 1M" "$nbd"',
        'nbdinfo --size "$uri"',
        'qemu-io -f raw -c "read -P 2 1M 1M" -c "discard 0 64k" "$nbd"',
      ].join(" && "),
    ],
    stream: () => {
      const disk = filled(1, 4 * MiB);
      disk.fill(2, MiB, 2 * MiB);
      disk.fill(0, 0, 64 * 1024);
      disk.fill(0, 3 * MiB);
      return digestOf(disk);
    },
  },
];

test.each(CLIENTS)("$title streams the exact disk", async ({ args, stream }) => {
  using place = tempFolder();
  await held(place.file("out"), args());
  expect(await digestFile(place.file("out"))).toBe(stream());
});

test(
  "a client that its command leaves in the background streams the exact disk",
  async () => {
    using place = tempFolder();
    const line =
      'qemu-io -f raw -c "write -P 1 0 1M" "$nbd"; ' +
      '(qemu-io -f raw -c "write -P 2 1M 1M" -c "sleep 300" -c "write -P 3 2M 1M" "$nbd") & sleep 0.1';
    await held(place.file("out"), ["size=4M", "--", line]);
    const parts = [filled(1, MiB), filled(2, MiB), filled(3, MiB), filled(0, MiB)];
    expect(await digestFile(place.file("out"))).toBe(digestOf(...parts));
  },
  IN_TIME,
);

test("nbdcopy is offered several connections, and opens four", async () => {
  using place = tempFolder();
  const words = [
    "-v",
    ...nbdcopy("--connections=4", "--threads=4", `${disks.fragmented.path}.raw`),
  ];
  const { stderr } = await held(place.file("out"), ["size=48M", ...words]);
  expect(stderr).toMatch(/client 4 connected/);
});

test("a client that the command leaves behind silently truncates the stream, and no sink is opened", async () => {
  using place = tempFolder();
  const line =
    'qemu-io -f raw -c "write -P 1 0 1M" -c "sleep 20000" "$nbd" >/dev/null & ' +
    'until nbdinfo --size "$uri"; do sleep 0.05; done; sleep 0.3';
  const words = [`pipe=exec:echo > '${place.file("out")}'`, `spool=${place.path}`, "--hold"];
  const { status, stderr } = await runProgram(["run", ...words, "size=1M", "--", line]);
  expect(status).toBe(4);
  expect(stderr).toMatch(/truncated: the command has ended, but .*left/);
  expect(existsSync(place.file("out"))).toBeFalse();
});

describe.skipIf(!FIO)("fio", () => {
  test.each([
    { title: "in blocks of 4K to 1M", words: ["--rw=randwrite", "--bsrange=4k-1m"] },
    { title: "in blocks of 4K", words: ["--rw=randwrite", "--bs=4k", "--size=8M"] },
    { title: "in blocks of 1M", words: ["--rw=randwrite", "--bs=1m"] },
    {
      title: "and reads in between",
      words: ["--rw=randrw", "--bs=16k", "--verify_backlog=64"],
      mixed: true,
    },
  ])("at random $title reads back what it has written", async ({ words, mixed }) => {
    using place = tempFolder();
    const out = place.file("out");
    const jobs = verifying("--size=32M", ...words);
    await held(out, ["size=32M", ...fio(...jobs, "--do_verify=1")]);
    // Of a mixture, only some blocks are written.
    if (mixed === true) return;
    await command(["fio", ...jobs, "--verify_only", `--filename=${out}`], { cwd: place.path });
  });

  test("that trims all, after it has written all, leaves zeroes", async () => {
    using place = tempFolder();
    const common = ["--randseed=7", "--iodepth=16", "--minimal", "--bs=64k", "--size=16M"];
    const jobs = ["--name=write", "--rw=randwrite", "--name=trim", "--stonewall", "--rw=randtrim"];
    await held(place.file("out"), ["size=16M", ...fio(...common, ...jobs)]);
    expect(await digestFile(place.file("out"))).toBe(digestOf(filled(0, 16 * MiB)));
  });
});

/** The disk as a file, as long as a command runs on it: see docs/recipes.md. */
function mounted(line: string): string[] {
  const script = `
    touch disk.raw
    qemu-storage-daemon --blockdev nbd,node-name=disk,server.type=unix,server.path="$unixsocket" \\
      --export fuse,id=fuse,node-name=disk,mountpoint=disk.raw,writable=on & server=$!
    until [ -s disk.raw ]; do kill -0 $server && sleep 0.05 || exit 1; done
    ${line}; status=$?
    kill $server && wait $server && exit $status`;
  return ["--", "sh", "-c", script];
}

/** What a file system in a file needs. */
const FUSE = Bun.which("qemu-storage-daemon") !== null && canOpen("/dev/fuse");

describe.skipIf(!FUSE || Bun.which("mkfs.ext4") === null)("a file system", () => {
  test("of mkfs.ext4 is in order, and has its files", async () => {
    using place = tempFolder();
    await command(["mkdir", place.file("files")]);
    writeFileSync(place.file("files/hello"), "hello\n");
    writeFileSync(place.file("files/large"), filled(5, 3 * MiB));
    const out = place.file("out");
    const line = `mkfs.ext4 -q -d '${place.file("files")}' disk.raw`;
    await held(out, ["size=64M", ...mounted(line)]);
    await command(["e2fsck", "-fn", out]);
    expect(await command(["debugfs", "-R", "cat /hello", out])).toBe("hello\n");
    await command(["debugfs", "-R", `dump /large ${place.file("large")}`, out]);
    expect(readFileSync(place.file("large")).equals(filled(5, 3 * MiB))).toBeTrue();
  });

  test("is changed by debugfs and e2fsck before it is streamed", async () => {
    using place = tempFolder();
    const out = place.file("out");
    writeFileSync(place.file("hello"), "hello\n");
    const write = `debugfs -w -R 'write ${place.file("hello")} hello' disk.raw`;
    const line = `mkfs.ext4 -q disk.raw && ${write} && tune2fs -L name disk.raw && e2fsck -fn disk.raw`;
    await held(out, ["size=64M", ...mounted(line)]);
    await command(["e2fsck", "-fn", out]);
    expect(await command(["debugfs", "-R", "cat /hello", out])).toBe("hello\n");
    expect(await command(["e2label", out])).toBe("name\n");
  });
});

describe("an image in the stream", () => {
  /** Runs commands of sh on a qcow2 in the stream. @returns what came out, checked */
  async function image(place: { file(name: string): string }, line: string): Promise<string> {
    const out = place.file("out");
    await held(out, ["--no-pad", "size=1T", "--", "sh", "-ec", line]);
    await command(["qemu-img", "check", "-q", "-f", "qcow2", out]);
    return out;
  }

  const CREATE = 'qemu-img create -q -f qcow2 "$nbd" 16M';
  const io = (words: string) => `qemu-io -f qcow2 -c '${words}' "$nbd"`;

  test("is made by one command, and written by others", async () => {
    using place = tempFolder();
    const writes = [io("write -P 1 0 1M"), io("write -P 2 5M 1M"), io("discard 0 512k")];
    const out = await image(place, [CREATE, ...writes].join("; "));
    const reads = [
      "read -P 0 0 512k",
      "read -P 1 512k 512k",
      "read -P 2 5M 1M",
      "read -P 0 6M 10M",
    ];
    await command(["qemu-io", "-f", "qcow2", ...reads.flatMap((one) => ["-c", one]), out]);
  });

  test("has snapshots and other options", async () => {
    using place = tempFolder();
    const snapshot = 'qemu-img snapshot -c before "$nbd"';
    const steps = [CREATE, io("write -P 1 0 1M"), snapshot, io("write -P 2 0 1M")];
    const amend = 'qemu-img amend -f qcow2 -o lazy_refcounts=on "$nbd"';
    const out = await image(place, [...steps, amend].join("; "));
    await command(["qemu-io", "-f", "qcow2", "-c", "read -P 2 0 1M", out]);
    await command(["qemu-img", "snapshot", "-a", "before", out]);
    await command(["qemu-io", "-f", "qcow2", "-c", "read -P 1 0 1M", out]);
  });

  test("has a bitmap", async () => {
    using place = tempFolder();
    const bitmap = 'qemu-img bitmap -f qcow2 --add "$nbd" changes';
    const out = await image(place, [CREATE, bitmap, io("write -P 1 0 1M")].join("; "));
    expect(await command(["qemu-img", "info", "--output=json", out])).toContain('"changes"');
  });

  test("is an overlay that is rebased onto nothing", async () => {
    using place = tempFolder();
    const { path } = disks.fragmented;
    const create = `qemu-img create -q -f qcow2 -b '${path}' -F qcow2 "$nbd"`;
    const rebase = 'qemu-img rebase -f qcow2 -b "" "$nbd"';
    const out = await image(place, [create, io("write -P 9 1M 64k"), rebase].join("; "));
    const raw = readFileSync(`${path}.raw`).fill(9, MiB, MiB + 64 * 1024);
    await command(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", out, place.file("raw")]);
    expect(readFileSync(place.file("raw")).equals(raw)).toBeTrue();
  });

  test("is the base into which an overlay is committed", async () => {
    using place = tempFolder();
    const overlay = place.file("overlay");
    const create = `qemu-img create -q -f qcow2 -F qcow2 -b "$nbd" '${overlay}'`;
    const write = `qemu-io -f qcow2 -c 'write -P 4 2M 1M' '${overlay}'`;
    const commit = `qemu-img commit -q -f qcow2 '${overlay}'`;
    const steps = [CREATE, io("write -P 1 1M 2M"), create, write, commit];
    const out = await image(place, steps.join("; "));
    const reads = ["read -P 1 1M 1M", "read -P 4 2M 1M", "read -P 0 3M 13M"];
    await command(["qemu-io", "-f", "qcow2", ...reads.flatMap((one) => ["-c", one]), out]);
  });

  test("takes the writes of qemu-img bench", async () => {
    using place = tempFolder();
    const run = 'qemu-img bench -q -w -f qcow2 -c 500 -d 16 -s 64k --pattern=6 "$nbd"';
    const out = await image(place, [CREATE, run].join("; "));
    await command(["qemu-io", "-f", "qcow2", "-c", "read -P 6 0 16M", out]);
  });
});

describe("several streams of one command", () => {
  test("are held, have a spool, or are plain, each as it says", async () => {
    using place = tempFolder();
    const { fragmented, sparse } = disks;
    const hold = [`spool=${place.path}`, "--hold"];
    const words = [
      ...["-e", "held", ...hold, "size=1T", "--no-pad"],
      ...["-e", "other", ...hold, "size=192M"],
      ...["-e", "spooled", `spool=${place.path}`, "size=192M", "window=1M"],
      ...["-e", "plain", "size=48M"],
    ];
    const lines = [
      `qemu-img convert -f qcow2 -O qcow2 ${fragmented.path} "$nbd_held"`,
      `nbdcopy --connections=4 ${sparse.path}.raw "$uri_other"`,
      `qemu-img convert -n -W -m 16 -f qcow2 -O raw ${sparse.path} "$nbd_spooled"`,
      `nbdcopy ${fragmented.path}.raw "$uri_plain"`,
    ];
    const all = lines.map((line, i) => `${line} & p${i}=$!`).join("\n");
    const line = `${all}\nwait $p0 && wait $p1 && wait $p2 && wait $p3`;
    await using trial = SeveralTrial.started(() => ["run", `pipe=${KEPT}`, ...words, "--", line]);
    const { stderr } = await trial.endsWith(0);
    expect(stderr).toEndWith("nbd-streaming: 4 of 4 streams complete\n");
    expect(digestOf(trial.output("other"))).toBe(sparse.sha256);
    expect(digestOf(trial.output("spooled"))).toBe(sparse.sha256);
    expect(digestOf(trial.output("plain"))).toBe(fragmented.sha256);
    const image = trial.file("held");
    await command(["qemu-img", "check", "-q", "-f", "qcow2", image]);
    await command([
      "qemu-img",
      "compare",
      "-f",
      "qcow2",
      "-F",
      "raw",
      image,
      `${fragmented.path}.raw`,
    ]);
  });

  test("are all untouched where they are held, if the command fails", async () => {
    using place = tempFolder();
    const words = ["-e", "held", "--hold", "size=4M", "-e", "plain", "size=4M"];
    const io = (name: string) => `qemu-io -f raw -c 'write -P 1 0 4M' "$nbd_${name}"`;
    const line = `${io("held")} && ${io("plain")} && exit 3`;
    const run = ["run", `pipe=${KEPT}`, `spool=${place.path}`, ...words, "--", line];
    await using trial = SeveralTrial.started(() => run);
    await trial.endsWith(3);
    expect(existsSync(trial.file("held"))).toBeFalse();
    expect(trial.isWhole("plain")).toBeFalse();
  });

  test("that are all held by a word in front are all held", async () => {
    using place = tempFolder();
    const hold = [`spool=${place.path}`, "--hold", "size=4M"];
    const names = ["a", "b", "c"];
    const twice = (name: string) =>
      `qemu-io -f raw -c 'write -P 1 0 4M' -c 'write -P 2 1M 1M' "$nbd_${name}"`;
    const run = [`pipe=${KEPT}`, ...hold, ...names.flatMap((name) => ["-e", name])];
    const line = names.map(twice).join(" && ");
    await using trial = SeveralTrial.started(() => ["run", ...run, "--", line]);
    await trial.endsWith(0);
    for (const name of names) {
      const disk = filled(1, 4 * MiB).fill(2, MiB, 2 * MiB);
      expect(trial.output(name).equals(disk)).toBeTrue();
    }
  });
});

function canOpen(path: string): boolean {
  try {
    closeSync(openSync(path, "r+"));
    return true;
  } catch {
    return false;
  }
}
