/** What one of several streams does to the others: nothing, whatever happens to it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { unixAddress } from "../../ffi/socket.ts";
import { statOf } from "../../src/process/proc.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { command, eventually, start } from "../support/program.ts";
import { KEPT, SeveralTrial, type Words, writeWhole } from "../support/several-trial.ts";
import { listening } from "../support/sockets.ts";
import { NBD_CMD_WRITE_ZEROES } from "../../src/protocol/constants.ts";
import { tempFolder } from "../support/temp.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const DATA = pseudoRandom(4 * MiB, 5);
const OTHER = pseudoRandom(8 * MiB, 6);

const TWO: Words = () => [`pipe=${KEPT}`, "-e", "vda", "-e", "vdb"];

/** The other stream, from its first byte to its end. */
async function writeOther(trial: SeveralTrial): Promise<void> {
  using vdb = await trial.clientOf("vdb");
  await writeWhole(vdb, OTHER);
  await trial.program.saying(/vdb: .*: complete/);
  expect(trial.output("vdb").equals(OTHER)).toBeTrue();
  expect(trial.isWhole("vdb")).toBeTrue();
}

/** Each stream by a client of its own, one after the other. */
async function writeBoth(trial: SeveralTrial): Promise<void> {
  {
    using vda = await trial.clientOf("vda");
    await writeWhole(vda, DATA);
  }
  await writeOther(trial);
}

describe("another stream is whole while one", () => {
  test("has a reader that is stopped", async () => {
    const words: Words = (trial) => [
      ...["-e", "vda", `pipe=${trial.ownFile("fifo")}`, "-e", "vdb", `pipe=${KEPT}`],
    ];
    await using trial = await SeveralTrial.serve(words);
    const read = 'exec < "$0"; echo open >&2; kill -STOP $$; exec cat > "$1"';
    await using reader = start(["sh", "-c", read, trial.ownFile("fifo"), trial.file("vda")]);
    await reader.saying(/open/);
    using vda = await trial.clientOf("vda");
    // More than the pipe takes.
    for (let at = 0; at < DATA.length; at += MiB) {
      vda.send(encodeWrite(at, DATA.subarray(at, at + MiB)));
    }
    await writeOther(trial);
    // Before it has stopped itself, that would be for nothing.
    await eventually(() => statOf(reader.process.pid)?.[0] === "T", "the reader to be stopped");
    reader.process.kill("SIGCONT");
    for (let at = 0; at < DATA.length; at += MiB) expect((await vda.reply()).error).toBe(0);
    vda.disconnect();
    await trial.endsWith(0);
    expect((await reader.ended()).status).toBe(0);
    expect(trial.output("vda").equals(DATA)).toBeTrue();
  });

  test("has a hole of 1 TiB, which takes hours", async () => {
    await using trial = await SeveralTrial.serve(() => [
      ...["-e", "vda", "pipe=exec:cat > /dev/null", "size=1T", "-e", "vdb", `pipe=${KEPT}`],
    ]);
    using vda = await trial.clientOf("vda");
    const GiB = 1024 * MiB;
    for (let at = 0; at < 1024; at += 2) {
      vda.send(encodeRequest(NBD_CMD_WRITE_ZEROES, BigInt(at) * BigInt(GiB), 2 * GiB));
    }
    for (let at = 0; at < 1024; at += 2) expect((await vda.reply()).error).toBe(0);
    vda.disconnect();
    await writeOther(trial);
    trial.program.process.kill("SIGTERM");
    await trial.endsWith(143);
  });

  test("gets many small requests", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    using vda = await trial.clientOf("vda");
    let over = false;
    const flood = (async () => {
      let at = 0;
      while (!over && at < DATA.length) {
        const burst = Array.from({ length: 256 }, () =>
          encodeWrite(at++, DATA.subarray(at - 1, at)),
        );
        vda.send(...burst);
        for (const _ of burst) expect((await vda.reply()).error).toBe(0);
      }
      return at;
    })();
    await writeOther(trial);
    over = true;
    const length = await flood;
    vda.disconnect();
    await trial.endsWith(0);
    expect(trial.output("vda").equals(DATA.subarray(0, length))).toBeTrue();
  });

  test("waits for a reader that does not come", async () => {
    const words: Words = (trial) => [
      ...["-e", "vda", `pipe=${trial.ownFile("fifo")}`, "-e", "vdb", `pipe=${KEPT}`],
    ];
    await using trial = await SeveralTrial.serve(words);
    using vda = await trial.clientOf("vda");
    vda.send(encodeWrite(0, DATA.subarray(0, MiB)));
    await writeOther(trial);
    trial.program.process.kill("SIGTERM");
    const { stderr } = await trial.endsWith(143);
    expect(stderr).toEndWith("nbd-streaming: error: 1 of 2 streams complete\n");
  });

  test("has a client that stops within a request", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    using vda = await trial.clientOf("vda");
    vda.send(encodeWrite(0, DATA.subarray(0, MiB)).subarray(0, MiB / 2));
    await writeOther(trial);
    vda[Symbol.dispose]();
    await trial.endsWith(4);
    expect(trial.isWhole("vda")).toBeFalse();
  });

  test("has a client that sends what is no request", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    using vda = await trial.clientOf("vda");
    expect(await vda.write(0, DATA.subarray(0, MiB))).toBe(0);
    vda.send(Buffer.alloc(64, 0xff));
    await vda.closed();
    await writeOther(trial);
    await trial.endsWith(4);
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, true]);
  });

  test("has a command that fails at once", async () => {
    await using trial = await SeveralTrial.serve(() => [
      ...["-e", "vda", "pipe=exec:exit 5", "-e", "vdb", `pipe=${KEPT}`],
    ]);
    await trial.program.saying(/vda: .*truncated: /);
    await writeOther(trial);
    await trial.endsWith(4);
  });
});

describe("clients that have no stream", () => {
  test("and do not choose one do not keep the others from their end", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    using idle = await RawClient.negotiating(trial.socket);
    using silent = await RawClient.connect(trial.socket);
    await writeBoth(trial);
    await trial.endsWith(0);
    expect(trial.output("vda").equals(DATA)).toBeTrue();
    await idle.closed();
    await silent.closed();
  });

  test("and come again and again do not keep the others from their end", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    let over = false;
    let visits = 0;
    const visitors = Array.from({ length: 3 }, async (_, i) => {
      while (!over) {
        try {
          using client = await RawClient.negotiating(trial.socket);
          if (i === 0) client.socket.resetAndDestroy();
          else await Bun.sleep(5);
        } catch {
          // The server is gone, or going.
          await Bun.sleep(1);
        }
        visits++;
      }
    });
    try {
      await eventually(() => visits > 20, "visitors");
      await writeBoth(trial);
      await trial.endsWith(0);
    } finally {
      over = true;
      await Promise.all(visitors);
    }
    expect(trial.output("vdb").equals(OTHER)).toBeTrue();
  });

  test("and ask for one that is over are told which there are", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    await writeOther(trial);
    await using asking = start(["nbdinfo", "--size", trial.uri("vdb")]);
    expect((await asking.ended()).stderr).toContain("no export named 'vdb'");
    await command(["nbdcopy", "--", "/dev/null", trial.uri("vda")]).catch(() => {});
    trial.program.process.kill("SIGTERM");
    await trial.program.ended();
  });
});

describe("streams of which one cannot begin", () => {
  const three = (bad: string): Words => {
    return (trial) => [
      ...["serve", `pipe=${KEPT}`, "-U", trial.socket, "-e", "vda", "-e", "vdb"],
      ...["-e", "vdc", bad, "-e", "vdd", `pipe=${trial.ownFile("fifo")}`],
    ];
  };

  test.each([
    ["a FIFO in a folder that is not there", "pipe=no/fifo", /^vdc: pipe=no\/fifo cannot be used/],
    ["a socket that nobody listens at", "pipe=tcp:127.0.0.1:1", /^vdc: .*refused/],
    ["a descriptor that is not open", "pipe=fd:77", /^vdc: /],
    ["a file that is not empty", "pipe=/etc/passwd", /^vdc: /],
  ])("because of %s leave nothing, and no sink sees an end", async (_, bad, message) => {
    await using trial = SeveralTrial.started(three(bad));
    const { stderr } = await trial.endsWith(3);
    const [line = "", ...others] = stderr.trimEnd().split("\n");
    expect(others).toEqual([]);
    expect(line.replace("nbd-streaming: error: ", "")).toMatch(message);
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, false]);
    expect(existsSync(trial.file("no"))).toBeFalse();
  });

  test("because the socket is in use leave nothing, and no sink sees an end", async () => {
    using folder = tempFolder();
    const path = folder.file("taken.sock");
    using _ = listening(unixAddress(path));
    await using trial = SeveralTrial.started((own) => [
      ...["serve", `pipe=${KEPT}`, "-U", path, "-e", "vda", "-e", "vdb"],
      ...["-e", "vdc", `pipe=${own.ownFile("fifo")}`],
    ]);
    const { stderr } = await trial.endsWith(3);
    expect(stderr).toMatch(/^nbd-streaming: error: cannot listen on [^\n]*\n$/);
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, false]);
    expect(existsSync(path)).toBeTrue();
  });

  test("because there are too few descriptors leave nothing, and no sink sees an end", async () => {
    const names = Array.from({ length: 12 }, (_, i) => `disk${i}`);
    await using trial = SeveralTrial.started(
      (own) => [
        "serve",
        `pipe=${KEPT}`,
        "-U",
        own.socket,
        ...names.flatMap((name) => ["-e", name]),
      ],
      { shell: "ulimit -n 120; " },
    );
    const { stderr } = await trial.endsWith(3);
    expect(stderr).toMatch(
      /^nbd-streaming: error: 12 streams need up to \d+ descriptors, and ulimit -n has room for 120: raise it/,
    );
    expect(names.filter((name) => trial.isWhole(name))).toEqual([]);
  });

  test("because a report is somebody's file leave that, and nothing else", async () => {
    await using trial = SeveralTrial.started((own) => {
      writeFileSync(own.file("notes"), "mine\n");
      return ["serve", `pipe=${KEPT}`, "-e", "vda", "-e", "vdb", "--summary=json:notes"];
    });
    await trial.endsWith(3);
    expect(readdirSync(trial.file("."))).toEqual(["notes"]);
    expect(String(trial.output("notes"))).toBe("mine\n");
  });
});
