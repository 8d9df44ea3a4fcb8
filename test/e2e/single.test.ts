/** `serve --single`: one client, on the socket that is standard input and output, as inetd does it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { unixAddress } from "../../ffi/socket.ts";
import { NBD_CMD_WRITE, NBD_OPT_ABORT, NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { Place } from "../cli/refusal.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest } from "../support/wire.ts";
import { PROGRAM, start } from "../support/program.ts";
import { ReadClient } from "../support/read-client.ts";
import { accepted, listening, type Owned } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";
import { DATA, ERROR, type SinkChoice, Trial, writeAll } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
/** What was passed takes the place of standard input and output. */
const INETD = 'exec "$@" <&3 >&3 3<&-';

const folder = tempFolder();
const path = folder.file("inetd.sock");
let listener: Owned;
beforeAll(() => {
  listener = listening(unixAddress(path));
  writeFileSync(folder.file("data"), DATA);
});
afterAll(() => {
  listener.close();
  folder[Symbol.dispose]();
});

interface Single extends AsyncDisposable {
  readonly trial: Trial;
  readonly client: RawClient;
}

/** A client, and the program that is started for it; --single but for other words. */
async function single(choice: SinkChoice, args = ["--single"]): Promise<Single> {
  await using stack = new AsyncDisposableStack();
  const client = stack.use(await RawClient.connect(path));
  using connection = accepted(listener);
  const options = { args, line: INETD, passed: connection.fd };
  const trial = stack.use(await Trial.passed(choice, options));
  const all = stack.move();
  return { trial, client, [Symbol.asyncDispose]: () => all[Symbol.asyncDispose]() };
}

/** Negotiates the shortest way. */
async function negotiate(client: RawClient): Promise<void> {
  await client.receive(18);
  client.send(Buffer.from([0, 0, 0, 3]), encodeOption(NBD_OPT_EXPORT_NAME));
  await client.receive(10);
}

describe("a client that writes", () => {
  test.each([[["--single"]], [["-s"]]])(
    "and disconnects ends the stream of %p well",
    async (args) => {
      await using one = await single("command", args);
      await negotiate(one.client);
      expect(await writeAll(one.client, DATA)).toBe(0);
      one.client.disconnect();
      const { stderr, stdout } = await one.trial.completes(DATA);
      expect(stderr).not.toContain("listening");
      expect(stdout).toBe("");
    },
  );

  test("ends a stream that is held at once: no other can come", async () => {
    const hold = [`spool=${folder.path}`, "--hold", "--no-pad"];
    await using one = await single("command", ["--single", ...hold]);
    await negotiate(one.client);
    expect(await one.client.write(0, DATA.subarray(KiB, MiB))).toBe(0);
    expect(await writeAll(one.client, DATA)).toBe(0);
    one.client.disconnect();
    await one.trial.completes(DATA);
  });

  describe.each([
    { mode: "a pipe", args: [] },
    { mode: "--hold", args: [`spool=${folder.path}`, "--hold"] },
  ])("and only zeroes the first sector, as if it made a disk for another, of $mode", ({ args }) => {
    test("has done all: no other can come", async () => {
      await using one = await single("command", ["--single", "size=512", ...args]);
      await negotiate(one.client);
      expect(await one.client.writeZeroes(0, 512)).toBe(0);
      one.client.disconnect();
      await one.trial.completes(Buffer.alloc(512));
    });

    test("and dies truncates it", async () => {
      await using one = await single("command", ["--single", "size=512", ...args]);
      await negotiate(one.client);
      expect(await one.client.writeZeroes(0, 512)).toBe(0);
      one.client.socket.destroy();
      await one.trial.fails({ status: 4, message: /truncated: a client left /, bytes: 0 });
    });
  });

  test("ends well with --keep, too: no other can come", async () => {
    await using one = await single("command", ["--single", "--keep"]);
    await negotiate(one.client);
    expect(await writeAll(one.client, DATA.subarray(0, MiB))).toBe(0);
    one.client.disconnect();
    await one.trial.completes(DATA.subarray(0, MiB));
  });

  test("and dies in the middle of a payload truncates it", async () => {
    await using one = await single("command");
    await negotiate(one.client);
    expect(await one.client.write(0, DATA.subarray(0, KiB))).toBe(0);
    one.client.send(encodeRequest(NBD_CMD_WRITE, KiB, MiB), DATA.subarray(KiB, 9 * KiB));
    while (one.client.socket.writableLength > 0) await Bun.sleep(5);
    one.client.socket.destroy();
    await one.trial.fails({ status: 4, message: /truncated: the client's connection ended / });
  });

  test("and dies between two requests truncates it", async () => {
    await using one = await single("command");
    await negotiate(one.client);
    expect(await one.client.write(0, DATA.subarray(0, KiB))).toBe(0);
    one.client.socket.destroy();
    await one.trial.fails({ status: 4, message: /truncated: a client left / });
  });

  test("and goes back gets the error, and the stream is truncated", async () => {
    await using one = await single("command");
    await negotiate(one.client);
    expect(await one.client.write(0, DATA.subarray(0, KiB))).toBe(0);
    expect(await one.client.write(0, DATA.subarray(0, KiB))).toBe(ERROR.EIO);
    await one.trial.fails({ status: 4, message: /truncated: / });
  });
});

describe("a client that does not move the stream", () => {
  const message = /truncated: the client has left and has not moved the stream$/;

  test("but only asks ends it as truncated", async () => {
    await using one = await single("command");
    await negotiate(one.client);
    expect(await one.client.flush()).toBe(0);
    one.client.disconnect();
    await one.trial.fails({ status: 4, message, bytes: 0 });
  });

  test("but leaves in negotiation ends it as truncated", async () => {
    await using one = await single("command");
    await one.client.receive(18);
    one.client.send(Buffer.from([0, 0, 0, 3]), encodeOption(NBD_OPT_ABORT));
    await one.trial.fails({ status: 4, message, bytes: 0 });
  });

  test("but hangs up at once ends it as truncated", async () => {
    await using one = await single("command");
    one.client.socket.destroy();
    await one.trial.fails({ status: 4, message, bytes: 0 });
  });

  test("but says nothing ends it when negotiation has taken too long", async () => {
    await using one = await single("command", ["--single", "--negotiation-timeout=0.3"]);
    await one.client.closed();
    await one.trial.fails({ status: 4, message, bytes: 0 });
  });
});

test("a client reads the whole of a file", async () => {
  await using stack = new AsyncDisposableStack();
  const words = ["serve", `read=${folder.file("data")}`, "--single"];
  const raw = stack.use(await RawClient.connect(path));
  using connection = accepted(listener);
  const program = stack.use(
    start(["sh", "-c", INETD, "sh", ...PROGRAM, ...words], { passed: connection.fd }),
  );
  await negotiate(raw);
  const client = new ReadClient(raw, false);
  const { error, data } = await client.readAll(0, DATA.length, MiB);
  expect(error).toBe(0);
  expect(data.equals(DATA)).toBeTrue();
  client.disconnect();
  const { status, stderr } = await program.ended();
  expect(status, stderr).toBe(0);
});

test("a signal ends it", async () => {
  await using one = await single("command");
  await negotiate(one.client);
  expect(await one.client.write(0, DATA.subarray(0, KiB))).toBe(0);
  one.trial.program.process.kill("SIGTERM");
  await one.trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM$/ });
});

test("standard input has to be a socket", async () => {
  using place = new Place();
  const said = await place.refusal(["serve", "pipe=fifo", "--single"], 3);
  expect(said).toMatch(/^--single: standard input is no socket/);
});

test("standard input must not be a socket that listens", async () => {
  const words = [...PROGRAM, "serve", "pipe=exec:cat >/dev/null", "--single"];
  await using program = start(["sh", "-c", INETD, "sh", ...words], { passed: listener.fd });
  const { status, stderr } = await program.ended();
  expect(stderr).toMatch(/error: --single: standard input is a socket that listens: .*\n$/);
  expect(status).toBe(3);
});

test.each([[["-U", "s"]], [["-p", "0"]], [["-i", "127.0.0.1"]]])(
  "--single with %p is a wrong command line",
  async (address) => {
    using place = new Place();
    const said = await place.refusal(["serve", "pipe=fifo", "--single", ...address], 2);
    expect(said).toBe("--single cannot be combined with -U, -p and -i");
  },
);
