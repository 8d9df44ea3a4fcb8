/** A source and its size=: too long, too short, padded, and a command that fails at its end. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { digestOf, digestPart } from "../support/client-commands.ts";
import { copied } from "../support/copied.ts";
import { type Image, rawImage } from "../support/images.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { command, type Ended, runProgram, start, startProgram } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { quoted } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(images.file("disk.raw"), 5 * MiB);
});

/** Clients that copy all of the disk to `out`. */
const CLIENTS = [
  { client: "nbdcopy", line: 'nbdcopy "$uri" out' },
  { client: "qemu-img", line: 'qemu-img convert -f raw -O raw "$uri" out' },
];

/** What every client says, in its own words. */
const CLIENT_ERROR = /^(?!nbd-streaming: ).*Input\/output error\n/m;

describe.each(CLIENTS)("$client", ({ line }) => {
  describe("of a source that is shorter than size=", () => {
    test(
      "fails, and the message tells where it ended",
      async () => {
        const { status, stderr } = await copy(["size=6M"], line);
        expect(stderr).toMatch(CLIENT_ERROR);
        expect(stderr).toMatch(
          /truncated: \S+source\.fifo ended at byte 5242880 of size=6291456: .*--pad\n$/,
        );
        expect(status).toBe(1);
      },
      // The program ends soon after its stream has failed, whether its client has heard of it or not.
      IN_TIME,
    );

    test("gets zeroes for the rest with --pad", async () => {
      const { status, stderr, sha256 } = await copy(["size=6M", "--pad"], line);
      expect(stderr).toMatch(/6291456 bytes \(data 5242880, zeroes 1048576\) .*: complete\n$/);
      expect(status).toBe(0);
      expect(sha256).toBe(digestOf(readFileSync(disk.path), Buffer.alloc(MiB)));
    });

    test("gets zeroes for the rest of an odd size, too", async () => {
      const size = 5 * MiB + 1001;
      const { status, sha256 } = await copy([`size=${size}`, "--pad"], line);
      expect(status).toBe(0);
      expect(sha256).toBe(digestOf(readFileSync(disk.path), Buffer.alloc(1024)));
    });

    test("gets what there is and zeroes of nothing at all with --pad", async () => {
      const { status, stderr, sha256 } = await copy(["size=2M", "--pad"], line, "/dev/null");
      expect(stderr).toMatch(/2097152 bytes \(data 0, zeroes 2097152\) .*: complete\n$/);
      expect(status).toBe(0);
      expect(sha256).toBe(digestOf(Buffer.alloc(2 * MiB)));
    });
  });

  describe("of a source that is longer than size=", () => {
    test("gets what it is to get, with a warning", async () => {
      const { status, stderr, sha256 } = await copy(["size=4M"], line);
      expect(stderr).toMatch(
        /^nbd-streaming: warn: \S+source\.fifo has 1048576 bytes more than size=4194304: .*\n/,
      );
      expect(stderr).toMatch(/: complete\n$/);
      expect(status).toBe(0);
      expect(sha256).toBe(await digestPart(disk.path, 0, 4 * MiB));
    });

    test("is warned of a single byte, and gets none of it", async () => {
      const size = 5 * MiB - 1;
      const { status, stderr, sha256 } = await copy([`size=${size}`], line);
      expect(stderr).toContain(`has 1 bytes more than size=${size}`);
      expect(status).toBe(0);
      const start = readFileSync(disk.path).subarray(0, size);
      expect(sha256).toBe(digestOf(start, Buffer.alloc(1)));
    });

    test(
      "fails with --exact",
      async () => {
        const { status, stderr } = await copy(["size=4M", "--exact"], line);
        expect(stderr).toMatch(CLIENT_ERROR);
        expect(stderr).toMatch(
          /truncated: \S+ has at least \d+ bytes more than size=4194304, .*\n$/,
        );
        expect(status).toBe(1);
      },
      IN_TIME,
    );

    test(
      "fails with --exact for a single byte",
      async () => {
        const { status, stderr } = await copy([`size=${5 * MiB - 1}`, "--exact"], line);
        expect(stderr).toMatch(CLIENT_ERROR);
        expect(stderr).toContain(
          "has at least 1 bytes more than size=5242879, and --exact forbids",
        );
        expect(status).toBe(1);
      },
      IN_TIME,
    );
  });

  test("of a source that is as long as size= says succeeds with --exact", async () => {
    const { status, stderr, sha256 } = await copy(["size=5M", "--exact"], line);
    expect(stderr).toMatch(/^nbd-streaming: 5242880 bytes [^\n]*: complete\n$/);
    expect({ status, sha256 }).toEqual({ status: 0, sha256: disk.sha256 });
  });

  test.each([
    { what: "that fails", end: "exit 3", says: "failed with status 3" },
    { what: "that is killed", end: "kill -KILL $$", says: "was killed by SIGKILL" },
    { what: "that fails a little later", end: "exec >&-; sleep 0.2; exit 7", says: "status 7" },
  ])(
    "fails itself after a command $what when it has given all",
    async ({ end, says }) => {
      const { status, stderr } = await copyFrom(`cat ${quoted(disk.path)}; ${end}`, line);
      expect(stderr).toMatch(CLIENT_ERROR);
      expect(stderr).toContain(
        `${says}, with the stream at byte 5242880: see why, and start again`,
      );
      expect(status).toBe(1);
    },
    IN_TIME,
  );

  test(
    "fails itself when a decompressor finds its input damaged",
    async () => {
      using folder = tempFolder();
      const packed = folder.file("packed.gz");
      await command(["sh", "-c", 'gzip -1c < "$1" > "$0"', packed, disk.path]);
      // The checksum at the end of the file is wrong: all of the data is there.
      const damaged = readFileSync(packed);
      const checksum = damaged.length - 8;
      damaged.writeUInt8(damaged.readUInt8(checksum) ^ 1, checksum);
      await Bun.write(packed, damaged);
      const { status, stderr } = await copyFrom(`gunzip -c ${quoted(packed)}`, line);
      expect(stderr).toMatch(CLIENT_ERROR);
      expect(stderr).toMatch(/truncated: exec:gunzip .* failed with status 1, with .*\n$/);
      expect(status).toBe(1);
    },
    IN_TIME,
  );

  test("gets all of a command that ends well a little later", async () => {
    const source = `cat ${quoted(disk.path)}; exec >&-; sleep 0.2`;
    const { status, sha256 } = await copyFrom(source, line);
    expect({ status, sha256 }).toEqual({ status: 0, sha256: disk.sha256 });
  });
});

describe("a command as the source", () => {
  test(
    "that fails before its end is not padded",
    async () => {
      const source = `head -c 1000000 ${quoted(disk.path)}; exit 3`;
      const { status, stderr } = await copyFrom(source, 'nbdcopy "$uri" out', ["--pad"]);
      expect(stderr).toContain("failed with status 3, with the stream at byte 1000000");
      expect(status).toBe(1);
    },
    IN_TIME,
  );

  test("that ends well before size= is padded", async () => {
    const source = `head -c 1000000 ${quoted(disk.path)}`;
    const { status, sha256 } = await copyFrom(source, 'nbdcopy "$uri" out', ["--pad"]);
    expect(status).toBe(0);
    const data = readFileSync(disk.path).subarray(0, 1_000_000);
    expect(sha256).toBe(digestOf(data, Buffer.alloc(5 * MiB - data.length)));
  });

  test.each([
    { what: "the size of size=", told: "5242880", words: ["size=5M"] },
    { what: "no size where none is known", told: "nothing", words: [] },
  ])("is told $what", async ({ told, words }) => {
    using folder = tempFolder();
    const source = 'read=exec:echo "${NBD_STREAMING_SIZE-nothing}" > told; head -c 4096 /dev/zero';
    const client = ["--", "qemu-io", "-r", "-f", "raw", "-c", "read 0 4096", "$uri"];
    const env = { NBD_STREAMING_SIZE: "12345" };
    const args = ["run", source, ...words, ...client];
    expect(await runProgram(args, { cwd: folder.path, env })).toMatchObject({ status: 0 });
    expect(readFileSync(folder.file("told"), "utf8")).toBe(`${told}\n`);
  });

  test("is ended, and does not count, when the client wants only a part", async () => {
    // It does not end by itself, and holds the program's standard error as long as it is there.
    const source = 'trap "" TERM PIPE; cat /dev/zero 2> /dev/null; sleep 60; exit 3';
    const words = ["run", `read=exec:${source}`, "size=1G", "--", "qemu-io", "-r", "-f", "raw"];
    const ended = await runProgram([...words, "-c", "read 0 3M", "$uri"]);
    expect(ended.stderr).toMatch(/^nbd-streaming: 3145728 bytes [^\n]*: complete\n$/);
    expect(ended.status).toBe(0);
  });
});

describe("serve", () => {
  test.each([
    { what: "the whole", reads: ["read 0 5M"], args: [], status: 0, says: ": complete" },
    {
      what: "a part",
      reads: ["read 0 3M"],
      args: [],
      status: 4,
      says: "read up to byte 3145728 of size=5242880: .* use --no-pad",
    },
    {
      what: "a part with --no-pad",
      reads: ["read 0 3M"],
      args: ["--no-pad"],
      status: 0,
      says: "3145728 bytes .*: complete",
    },
  ])("ends with status $status after a client of $what", async ({ reads, args, status, says }) => {
    using folder = tempFolder();
    const socket = folder.file("nbd.sock");
    await using serving = startProgram(["serve", `read=${disk.path}`, "-U", socket, ...args]);
    await serving.saying(/listening on /);
    const words = reads.flatMap((read) => ["-c", read]);
    const uri = `nbd+unix:///?socket=${socket}`;
    await using client = start(["qemu-io", "-r", "-f", "raw", ...words, uri]);
    expect(await client.ended()).toMatchObject({ status: 0 });
    const ended = await serving.ended();
    expect(ended.stderr).toMatch(new RegExp(`${says}\n$`));
    expect(ended.status).toBe(status);
  });
});

describe("without size=, a command", () => {
  const read = (source: string) => {
    const client = ["qemu-io", "-r", "-f", "raw", "-c", "read 0 5M", "$nbd"];
    return runProgram(["run", `read=exec:cat ${quoted(disk.path)}; ${source}`, "--", ...client]);
  };

  test("that fails right behind what the client has read counts", async () => {
    const { status, stderr } = await read("exit 6");
    expect(stderr).toMatch(/truncated: exec:cat .* failed with status 6\n$/);
    expect(status).toBe(4);
  });

  test("that has more to say is none of the client's business", async () => {
    const { status, stderr } = await read("echo more; exit 6");
    expect(stderr).toMatch(/: complete\n$/);
    expect(status).toBe(0);
  });
});

interface Copy extends Ended {
  /** Of what the client has left. */
  readonly sha256: string;
}

/** From a FIFO that a file comes out of. */
async function copy(
  words: readonly string[],
  line: string,
  file: string = disk.path,
): Promise<Copy> {
  using folder = tempFolder();
  const ended = await copied("a FIFO", file, [...words, "--", line], folder.path);
  return { ...ended, sha256: await digestOut(folder.file("out")) };
}

/** From a command. */
async function copyFrom(
  source: string,
  line: string,
  words: readonly string[] = [],
): Promise<Copy> {
  using folder = tempFolder();
  const args = ["run", `read=exec:${source}`, "size=5M", ...words, "--", line];
  const ended = await runProgram(args, { cwd: folder.path });
  return { ...ended, sha256: await digestOut(folder.file("out")) };
}

async function digestOut(path: string): Promise<string> {
  return existsSync(path) ? await digestFile(path) : "nothing";
}
