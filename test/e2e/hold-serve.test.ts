/** `serve --hold`: when the clients are done, and what happens to one that comes back. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { type Image, qcow2Image } from "../support/images.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { RawClient, turnedAway } from "../support/nbd-client.ts";
import { command, eventually, PROGRAM, start } from "../support/program.ts";
import { SeveralTrial, writeWhole } from "../support/several-trial.ts";
import { tempFolder } from "../support/temp.ts";
import { DATA, GATE, type SinkChoice, Trial, writeAll } from "../support/trial.ts";
import { encodeOption } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await qcow2Image(folder.file("disk.qcow2"), 4 * MiB);
  writeFileSync(folder.file("data"), DATA);
});

/** Takes the first byte, and the rest when the gate is open. */
const SLOW = `head -c 1 > part; echo > begun; ${GATE}; cat >> part; echo > done`;
const COMMAND: SinkChoice = { exec: SLOW };
const LATE =
  /truncated: a client has come when the others had left and the stream was on its way, /;

function holding(choice: SinkChoice, ...args: string[]): Promise<Trial> {
  return Trial.serve(choice, { args: [`spool=${folder.path}`, "--hold", "--no-pad", ...args] });
}

function uriOf({ socket }: Trial): string {
  return `nbd+unix:///?socket=${socket}`;
}

/** Writes all, and waits until the program knows that the client has left. */
async function writeAndLeave(trial: Trial, data = DATA): Promise<void> {
  using client = await trial.client();
  expect(await writeAll(client, data)).toBe(0);
  client.disconnect();
  await trial.program.saying(/client 1 ended: disconnected/);
}

/** Waits until the stream is going out. */
async function begun(trial: Trial): Promise<void> {
  await eventually(() => existsSync(trial.file("begun")), "the stream to begin");
}

describe("a client that comes back soon", () => {
  test(
    "is qemu-img convert, which makes a qcow2 over one connection and fills it over another",
    async () => {
      await using trial = await holding("command");
      const words = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", disk.path, uriOf(trial)];
      await command(words);
      await trial.completes(readFileSync(await made("-O", "qcow2")));
    },
    IN_TIME,
  );

  test(
    "is one after the other in a script",
    async () => {
      await using trial = await holding("command");
      const create = `qemu-img create -q -f qcow2 "$1" 8M`;
      const write = `qemu-io -f qcow2 -c "write -P 7 1M 1M" "$1" > /dev/null`;
      await command(["sh", "-ec", `${create}; sleep 0.3; ${write}`, "sh", uriOf(trial)]);
      const { status } = await trial.program.ended();
      expect(status).toBe(0);
      const image = trial.file("part");
      await command(["qemu-img", "check", "-q", "-f", "qcow2", image]);
      await command([
        "qemu-io",
        "-f",
        "qcow2",
        "-c",
        "read -P 7 1M 1M",
        "-c",
        "read -P 0 2M 6M",
        image,
      ]);
    },
    IN_TIME,
  );

  test(
    "goes on where it has stopped",
    async () => {
      await using trial = await holding("command");
      await writeAndLeave(trial, DATA.subarray(0, MiB));
      await Bun.sleep(250);
      using client = await trial.client();
      for (let at = MiB; at < DATA.length; at += MiB) {
        expect(await client.write(at, DATA.subarray(at, at + MiB))).toBe(0);
      }
      client.disconnect();
      await trial.completes(DATA);
    },
    IN_TIME,
  );

  test(
    "but is killed then truncates the stream, and no command is started",
    async () => {
      await using trial = await holding({ exec: "echo > started; cat > part" });
      await writeAndLeave(trial, DATA.subarray(0, MiB));
      using client = await trial.client();
      expect(await client.write(MiB, DATA.subarray(0, MiB))).toBe(0);
      client.socket.destroy();
      await trial.fails({ status: 4, message: /truncated: a client left without/, bytes: 0 });
      expect(existsSync(trial.file("started"))).toBeFalse();
    },
    IN_TIME,
  );

  test("and only asks does not keep the stream from its end", async () => {
    await using trial = await holding("command");
    await writeAndLeave(trial);
    await command(["nbdinfo", "--size", uriOf(trial)]);
    await trial.completes(DATA);
  });
});

describe("a client that says nothing", () => {
  test(
    "is dismissed when the others are done, and others can still come",
    async () => {
      await using trial = await holding("command", "--idle-timeout=1");
      using silent = await trial.client();
      await trial.program.saying(/client 1 connected/);
      using first = await trial.client();
      expect(await first.write(0, DATA.subarray(0, MiB))).toBe(0);
      first.disconnect();
      await silent.closed();
      using second = await trial.client();
      for (let at = MiB; at < DATA.length; at += MiB) {
        expect(await second.write(at, DATA.subarray(at, at + MiB))).toBe(0);
      }
      second.disconnect();
      await trial.completes(DATA);
    },
    IN_TIME,
  );

  test("and negotiates when the others are done is waited for only as long as it speaks", async () => {
    await using trial = await holding("command");
    using silent = await RawClient.negotiating(trial.socket);
    await writeAndLeave(trial);
    await trial.completes(DATA);
    await silent.closed();
  });
});

test("clients that only ask, again and again, do not keep a stream from its end for ever", async () => {
  await using trial = await holding("command");
  await writeAndLeave(trial);
  let asked = 0;
  try {
    for (;;) {
      using client = await trial.client();
      client.disconnect();
      await client.closed();
      asked++;
    }
  } catch {
    // No server any more.
  }
  expect(asked).toBeGreaterThan(1);
  const ended = await trial.program.ended();
  // One of them may have come when the stream was on its way.
  if (ended.status !== 0) expect(ended.stderr).toMatch(LATE);
});

describe("a client that comes back when the stream is on its way", () => {
  test.each([
    { sink: "a command", choice: COMMAND },
    { sink: "a pipeline", choice: { exec: `{ ${SLOW}; } | cat` } },
    { sink: "a FIFO", choice: { fifo: `head -c 1; echo > begun; ${GATE}; cat` } },
  ])("to $sink truncates it", async ({ choice }) => {
    await using trial = await holding(choice);
    await writeAndLeave(trial);
    await begun(trial);
    await turnedIn(trial);
    await trial.program.saying(/truncated/);
    trial.openGate();
    await trial.fails({ status: 4, message: LATE });
  });

  test("to a socket truncates it, and is not waited for", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    await using trial = await holding({ unix: () => resolve() });
    await writeAndLeave(trial);
    await promise;
    await turnedIn(trial);
    await trial.fails({ status: 4, message: LATE });
  });

  test("and is a real one truncates it, and fails itself", async () => {
    await using trial = await holding(COMMAND);
    await command(["qemu-img", "create", "-q", "-f", "qcow2", uriOf(trial), "8M"]);
    await begun(trial);
    const late = ["qemu-io", "-f", "qcow2", "-c", "write 0 1M", uriOf(trial)];
    await using client = start(late);
    expect((await client.ended()).status).not.toBe(0);
    await trial.fails({ status: 4, message: LATE, whole: readFileSync(await created()) });
  });

  test("truncates it as long as the command has not seen the end", async () => {
    await using trial = await holding(COMMAND);
    await writeAndLeave(trial);
    await begun(trial);
    using client = await RawClient.negotiating(trial.socket);
    trial.openGate();
    const part = trial.file("part");
    await eventually(() => statSync(part).size === DATA.length, "the command to have it all");
    client.send(encodeOption(NBD_OPT_EXPORT_NAME));
    await trial.fails({ status: 4, message: LATE, bytes: DATA.length });
    expect(readFileSync(part).equals(DATA)).toBeTrue();
  });

  test("but only lists the exports, or says nothing, does it no harm", async () => {
    await using trial = await holding(COMMAND);
    await writeAndLeave(trial);
    await begun(trial);
    await command(["qemu-nbd", "--list", "-k", trial.socket]);
    using silent = await RawClient.negotiating(trial.socket);
    trial.openGate();
    await trial.completes(DATA);
    await silent.closed();
  });
});

describe("a signal", () => {
  test(
    "soon after the last client is the end, with a short time for the stream",
    async () => {
      await using trial = await holding("command");
      // The less there is, the less depends on the machine.
      const little = DATA.subarray(0, 64 * 1024);
      await writeAndLeave(trial, little);
      trial.program.process.kill("SIGTERM");
      await trial.completes(little);
    },
    IN_TIME,
  );

  test("soon after the last client truncates a stream that takes longer", async () => {
    await using trial = await holding(COMMAND);
    await writeAndLeave(trial);
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM/ });
  });

  test("while a client is connected truncates the stream, and no command is started", async () => {
    await using trial = await holding({ exec: "echo > started; cat > part" });
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, MiB))).toBe(0);
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM/, bytes: 0 });
    expect(existsSync(trial.file("started"))).toBeFalse();
  });

  test("while the stream is on its way ends it as truncated", async () => {
    await using trial = await holding(COMMAND);
    await writeAndLeave(trial);
    await begun(trial);
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM/ });
  });
});

describe("with --keep", () => {
  test("clients come and go until a signal, and the stream has as long as it needs", async () => {
    await using trial = await holding(COMMAND, "--keep");
    await writeAndLeave(trial, DATA.subarray(0, MiB));
    await Bun.sleep(1500);
    expect(existsSync(trial.file("begun"))).toBeFalse();
    const data = folder.file("data");
    await command(["nbdcopy", data, uriOf(trial)]);
    trial.program.process.kill("SIGTERM");
    await begun(trial);
    await turnedAway(trial.socket).catch(() => {});
    await Bun.sleep(800);
    trial.openGate();
    await trial.completes(DATA);
  });

  test("a second signal ends the stream at once", async () => {
    await using trial = await holding(COMMAND, "--keep");
    await writeAndLeave(trial);
    trial.program.process.kill("SIGTERM");
    await begun(trial);
    trial.program.process.kill("SIGINT");
    await trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM/ });
  });

  test("a signal before the first client ends with the signal's status", async () => {
    await using trial = await holding({ exec: "echo > started" }, "--keep");
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM/, bytes: 0 });
    expect(existsSync(trial.file("started"))).toBeFalse();
  });
});

test("nbdcopy that starts serve as its server gets a complete stream", async () => {
  const out = folder.file("captive");
  const words = ["serve", `pipe=exec:cat > '${out}'`, `spool=${folder.path}`, "--hold", "--no-pad"];
  await command(["nbdcopy", "--", folder.file("data"), "[", ...PROGRAM, ...words, "]"]);
  await eventually(() => existsSync(out) && statSync(out).size === DATA.length, "all of it");
  expect(readFileSync(out).equals(DATA)).toBeTrue();
});

test("a late client of one stream does no harm to another", async () => {
  const slow = (name: string) =>
    `pipe=exec:head -c 1 > ${name}; echo > ${name}.begun; ${GATE}; cat >> ${name}; echo > ${name}.whole`;
  const words = ["vda", "vdb"].flatMap((name) => ["-e", name, slow(name)]);
  await using trial = await SeveralTrial.serve(() => [
    `spool=${folder.path}`,
    "--hold",
    "--no-pad",
    ...words,
  ]);
  for (const name of ["vda", "vdb"]) {
    using client = await trial.clientOf(name);
    await writeWhole(client, DATA);
    await client.closed();
  }
  for (const name of ["vda", "vdb"]) {
    await eventually(() => existsSync(trial.file(`${name}.begun`)), `${name} to begin`);
  }
  using late = await trial.clientOf("vda");
  await late.closed();
  await trial.program.saying(/vda: .*truncated: a client has come/);
  trial.openGate();
  const { stderr } = await trial.endsWith(4);
  expect(stderr).toMatch(/vdb: .*complete/);
  expect(trial.output("vdb").equals(DATA)).toBeTrue();
  expect(trial.isWhole("vdb")).toBeTrue();
  expect(trial.isWhole("vda")).toBeFalse();
});

/** Connects to a stream that takes no clients any more. */
async function turnedIn(trial: Trial): Promise<void> {
  using client = await RawClient.negotiating(trial.socket);
  client.send(encodeOption(NBD_OPT_EXPORT_NAME));
  await client.closed();
}

/** What qemu-img makes of the disk in a file of its own. */
async function made(...words: string[]): Promise<string> {
  const path = folder.file("own");
  await command(["qemu-img", "convert", "-f", "qcow2", ...words, disk.path, path]);
  return path;
}

/** An empty qcow2. */
async function created(): Promise<string> {
  const path = folder.file("empty");
  await command(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"]);
  return path;
}
