/** Programs of others that look at an NBD server, or are made to test one. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { LIMIT } from "../support/limit.ts";
import { command, start } from "../support/program.ts";
import { DATA as DISK, ReadTrial } from "../support/read-trial.ts";
import { DATA, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const SIZE = DATA.length;
const NAME = "disk";

/** A test that is skipped, under its full name, where the program is not installed. */
function needs(program: string) {
  return test.skipIf(Bun.which(program) === null);
}

/** `serve pipe=FIFO` of a stream with a name. */
function serving(...args: string[]): Promise<Trial> {
  return Trial.serve("FIFO", { args: [`size=${SIZE}`, "-e", NAME, ...args] });
}

/** `serve read=FILE`. */
function servingData(...args: string[]): Promise<ReadTrial> {
  return ReadTrial.serve({ path: "data" }, { args: ["-e", NAME, ...args] });
}

function uri({ socket }: Trial | ReadTrial): string {
  return `nbd+unix:///${NAME}?socket=${socket}`;
}

interface Listed {
  readonly exports: readonly Record<string, unknown>[];
}

describe("those who only look see what the stream is, and do it no harm:", () => {
  /** Copies the stream whole, after all. */
  async function completes(trial: Trial): Promise<void> {
    writeFileSync(trial.file("disk"), DATA);
    await command(["nbdcopy", trial.file("disk"), uri(trial)]);
    await trial.completes(DATA);
  }

  /** What the two directions have in common. */
  const COMMON = {
    "export-name": NAME,
    "export-size": SIZE,
    contexts: ["base:allocation"],
    can_df: true,
    can_trim: false,
    can_multi_conn: false,
    block_size_minimum: 1,
    block_size_maximum: 32 * 2 ** 20,
  };

  test("nbdinfo, --json and --list", async () => {
    await using trial = await serving();
    const want = { ...COMMON, is_read_only: false, can_flush: true, can_fua: true, can_zero: true };
    for (const words of [[], ["--list"]]) {
      const info = JSON.parse(await command(["nbdinfo", "--json", ...words, uri(trial)])) as Listed;
      expect(info.exports).toHaveLength(1);
      expect(info.exports[0]).toMatchObject(want);
    }
    await completes(trial);
  });

  test("nbdinfo of a stream that is read", async () => {
    await using trial = await servingData();
    const info = JSON.parse(await command(["nbdinfo", "--json", "--list", uri(trial)])) as Listed;
    const want = { ...COMMON, is_read_only: true, can_flush: false, can_zero: false };
    expect(info.exports[0]).toMatchObject(want);
    await command(["nbdcopy", uri(trial), trial.file("copy")]);
    expect(readFileSync(trial.file("copy")).equals(DISK)).toBeTrue();
    await trial.completes(SIZE);
  });

  needs("qemu-nbd")("qemu-nbd --list", async () => {
    await using trial = await serving();
    const listed = await command(["qemu-nbd", "--list", "-k", trial.socket]);
    expect(listed).toContain(`export: '${NAME}'`);
    expect(listed).toMatch(new RegExp(`size: +${SIZE}\n`));
    expect(listed).toMatch(/flags: .*flush fua zeroes df/);
    expect(listed).toContain("base:allocation");
    await completes(trial);
  });

  test("qemu-img info", async () => {
    await using trial = await serving();
    const info = await command(["qemu-img", "info", "-f", "raw", "--output=json", uri(trial)]);
    expect(JSON.parse(info)).toMatchObject({ "virtual-size": SIZE, format: "raw" });
    await completes(trial);
  });

  needs("nbd-client")("nbd-client -l", async () => {
    await using trial = await serving();
    const listed = await command(["nbd-client", "-l", "-unix", trial.socket]);
    expect(listed.split("\n").map((line) => line.trim())).toContain(NAME);
    await completes(trial);
  });
});

describe("those who move it get it whole:", () => {
  needs("nbdsh")("nbdsh, asking for one thing after the other", async () => {
    await using trial = await serving();
    writeFileSync(trial.file("disk"), DATA);
    const script = `
size = ${SIZE}
assert h.get_size() == size and h.can_zero() and h.can_flush() and not h.is_read_only()
data = open("disk", "rb").read()
half = size // 2
h.pwrite(data[:half], 0)
h.flush()
for call in (lambda: h.pread(512, 0), lambda: h.trim(512, half), lambda: h.cache(512, 0)):
    try:
        call()
        raise SystemExit("it is done, and cannot be")
    except nbd.Error:
        pass
assert h.pread(512, half) == bytearray(512)
h.pwrite(data[half:], half, nbd.CMD_FLAG_FUA)
h.shutdown()
`;
    writeFileSync(trial.file("script.py"), script);
    // What a server refuses is for it to refuse, and not for libnbd.
    const loose = "h.set_strict_mode(0)";
    const source = "exec(open('script.py').read())";
    const words = ["nbdsh", "-c", loose, "-u", uri(trial), "-c", source];
    // It has the Python beside it in mind, and not another one that may come first.
    const PATH = `${dirname(Bun.which("nbdsh") ?? "")}:${process.env.PATH}`;
    await command(words, { cwd: trial.file("."), env: { PATH } });
    await trial.completes(DATA);
  });

  /** One request after the other. @returns what fio says of it */
  async function fio(rw: "read" | "write", target: string): Promise<Job> {
    const job = ["--name=job", "--ioengine=nbd", `--uri=${target}`, "--bs=64k", `--size=${SIZE}`];
    const words = [`--rw=${rw}`, "--iodepth=1", "--output-format=json"];
    const said = await command(["fio", ...job, ...words]);
    // It has notes to make before.
    const { jobs } = JSON.parse(said.slice(said.indexOf("{"))) as { jobs: readonly [Job] };
    return jobs[0];
  }

  interface Job {
    readonly error: number;
    readonly read: { readonly io_bytes: number };
    readonly write: { readonly io_bytes: number };
  }

  // fio ends without NBD_CMD_DISC, which is a client that is lost, though nothing is missing.
  const lost = { status: 4, message: /left without NBD_CMD_DISC/ };

  needs("fio")("fio's nbd engine, which does not say goodbye, writes it", async () => {
    await using trial = await serving();
    // Of the content fio decides: what came out is checked for its length.
    expect(await fio("write", uri(trial))).toMatchObject({ error: 0, write: { io_bytes: SIZE } });
    const { status, stderr } = await trial.program.ended();
    expect(status).toBe(lost.status);
    expect(stderr).toMatch(lost.message);
    expect(await trial.sink.output()).toHaveLength(SIZE);
  });

  needs("fio")("fio's nbd engine, which does not say goodbye, reads it", async () => {
    await using trial = await servingData();
    expect(await fio("read", uri(trial))).toMatchObject({ error: 0, read: { io_bytes: SIZE } });
    await trial.fails({ ...lost, bytes: SIZE });
  });

  /**
   * `nbdkit nbd`, a server that is our client, and what is run with it as server. nbdkit ends with that, and
   * then may have no time to say goodbye to us: it ends when we have.
   */
  const proxy = (trial: Trial | ReadTrial, client: string, ...words: string[]) => {
    const wait = `for i in $(seq 1000); do [ -S ${trial.socket} ] || exit 0; sleep 0.02; done; exit 1`;
    return start(
      [
        ...["nbdkit", "-f", ...words, "-U", "-", "nbd", `socket=${trial.socket}`, `export=${NAME}`],
        ...["--run", `${client} || exit; ${wait}`],
      ],
      { cwd: trial.file(".") },
    );
  };

  needs("nbdkit")("a proxy that asks out of order, into a window", async () => {
    await using trial = await serving("window=64M");
    writeFileSync(trial.file("disk"), DATA);
    await using nbdkit = proxy(trial, 'nbdcopy disk "$uri"');
    expect(await nbdkit.ended()).toMatchObject({ status: 0 });
    await trial.completes(DATA);
  });

  needs("nbdkit")("a proxy that asks out of order, out of a window", async () => {
    await using trial = await servingData("window=64M");
    await using nbdkit = proxy(trial, 'nbdcopy "$uri" copy');
    expect(await nbdkit.ended()).toMatchObject({ status: 0 });
    expect(readFileSync(trial.file("copy")).equals(DISK)).toBeTrue();
    await trial.completes(SIZE);
  });

  needs("nbdkit")("a proxy with one thread, which keeps the order", async () => {
    await using trial = await serving();
    writeFileSync(trial.file("disk"), DATA);
    await using nbdkit = proxy(trial, 'nbdcopy --synchronous disk "$uri"', "-t", "1");
    expect(await nbdkit.ended()).toMatchObject({ status: 0 });
    await trial.completes(DATA);
  });
});
