/** `serve` with a socket that whoever starts it has made: LISTEN_FDS, as systemd passes it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { boundAddress, socketpair, unixAddress } from "../../ffi/socket.ts";
import { Place } from "../cli/refusal.ts";
import { type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { command, PROGRAM, start, startProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { ANY_PORT, listening, Owned } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";
import { DATA, ERROR, GATE, Trial, writeAll } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
/** The program that is started is the shell's process. */
const ONE = "export LISTEN_FDS=1 LISTEN_PID=$$; ";

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(images.file("disk.raw"), 8 * MiB);
});

describe("nbdcopy that starts the server", () => {
  const copy = (...sink: string[]) => ["nbdcopy", "--", disk.path, "[", ...PROGRAM, ...sink, "]"];

  test("gets all of a disk into the stream", async () => {
    using folder = tempFolder();
    const fifo = folder.file("fifo");
    await using digest = digestFifo(fifo);
    await using copying = start(copy("serve", `pipe=${fifo}`, `size=${disk.size}`));
    const ended = await copying.ended();
    expect(ended.status, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/: complete\n$/);
    expect(await digest.sha256()).toBe(disk.sha256);
  });

  test("waits for a reader that is slow, though it sends SIGTERM after its last word", async () => {
    using folder = tempFolder();
    const out = folder.file("out");
    // The last part is in pipes when nbdcopy is done with it.
    const slow = `head -c ${disk.size - 32 * KiB} > ${out}; sleep 1; cat >> ${out}`;
    await using copying = start(copy("serve", `pipe=exec:${slow}`, `size=${disk.size}`));
    const ended = await copying.ended();
    expect(ended.status, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/: complete\n$/);
    expect(readFileSync(out).equals(readFileSync(disk.path))).toBeTrue();
  });

  test("fails when the reader dies, and the server says why", async () => {
    await using copying = start(copy("serve", "pipe=exec:head -c 100000 > /dev/null"));
    const { status, stderr } = await copying.ended();
    expect(status).toBe(1);
    const [line, ...more] = stderr.split("\n").filter((l) => l.startsWith("nbd-streaming: error"));
    expect(more).toEqual([]);
    expect(line).toMatch(/: truncated: the reader of exec:head [^\n]* went away/);
  });

  test("reads a stream into a file", async () => {
    using folder = tempFolder();
    const out = folder.file("out.raw");
    const source = [...PROGRAM, "serve", `read=${disk.path}`];
    await using copying = start(["nbdcopy", "--", "[", ...source, "]", out]);
    const ended = await copying.ended();
    expect(ended.status, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/: complete\n$/);
    expect(readFileSync(out).equals(readFileSync(disk.path))).toBeTrue();
  });
});

/** A socket to pass, and how clients and messages name it. */
interface Passed extends AsyncDisposable {
  readonly socket: Owned;
  readonly where: string | number;
  readonly uri: string;
  readonly path: string | undefined;
}

function passed(kind: "unix" | "tcp"): Passed {
  const folder = tempFolder();
  const path = kind === "unix" ? folder.file("a socket") : undefined;
  const socket = listening(path === undefined ? ANY_PORT : unixAddress(path));
  const address = boundAddress(socket.fd);
  const port = address?.kind === "tcp" ? address.port : 0;
  const uri = path?.replace(" ", "%20") ?? "";
  return {
    socket,
    path,
    where: path ?? port,
    uri: kind === "unix" ? `nbd+unix:///?socket=${uri}` : `nbd://127.0.0.1:${port}/`,
    [Symbol.asyncDispose]: () => {
      socket.close();
      folder[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}

describe.each(["unix", "tcp"] as const)("a %s socket that is passed", (kind) => {
  test("serves clients one after the other and at the same time, until the stream is done", async () => {
    await using one = passed(kind);
    await using trial = await Trial.passed("command", { shell: ONE, passed: one.socket.fd });
    await trial.program.saying(/listening on \S+\n/);
    expect(trial.program.stderr).toContain(`listening on ${one.uri}\n`);
    await command(["nbdinfo", "--size", one.uri]);
    using asking = await RawClient.transmission(one.where);
    using writing = await RawClient.transmission(one.where);
    expect(await asking.flush()).toBe(0);
    expect(await writeAll(writing, DATA.subarray(0, MiB))).toBe(0);
    asking.disconnect();
    writing.disconnect();
    await trial.completes(DATA.subarray(0, MiB));
    // It belongs to whoever passed it, for whom the next connection waits.
    if (one.path !== undefined) expect(existsSync(one.path)).toBeTrue();
    using _waiting = await RawClient.connect(one.where);
  });

  test("takes a client that was there before the program", async () => {
    await using one = passed(kind);
    const early = RawClient.transmission(one.where);
    await using trial = await Trial.passed("command", { shell: ONE, passed: one.socket.fd });
    using client = await early;
    expect(await writeAll(client, DATA.subarray(0, MiB))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, MiB));
  });

  test("and its variables are not for the sink's command", async () => {
    await using one = passed(kind);
    // Its standard output and error are the program's own.
    const look =
      "env > env; { readlink /proc/$$/fd/3; true; } > third; cat > part; echo committed > done";
    const shell = `${ONE}export LISTEN_FDNAMES=nbd; `;
    await using trial = await Trial.passed({ exec: look }, { shell, passed: one.socket.fd });
    using client = await RawClient.transmission(one.where);
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
    expect(readFileSync(trial.file("env"), "utf8")).not.toMatch(/^LISTEN_/m);
    expect(readFileSync(trial.file("third"), "utf8")).toBe("");
  });
});

describe("the signal of a starter", () => {
  const stalled = { exec: `${GATE}; cat > part; echo committed > done` };

  /** So little that every pipe takes it: one of a user with many of them has two pages (pipe(7)). */
  const LITTLE = DATA.subarray(0, 4 * KiB);

  /** A stream of which all is said, and little read. */
  async function allSaid(one: Passed): Promise<Trial> {
    const trial = await Trial.passed(stalled, { shell: ONE, passed: one.socket.fd });
    using client = await RawClient.transmission(one.where);
    expect(await writeAll(client, LITTLE)).toBe(0);
    client.disconnect();
    await client.closed();
    return trial;
  }

  test("right after the last client has left waits for the reader", async () => {
    await using one = passed("unix");
    await using trial = await allSaid(one);
    trial.program.process.kill("SIGTERM");
    // Longer than a signal's grace is where nobody is known to wait.
    await Bun.sleep(800);
    expect(trial.program.process.exitCode).toBeNull();
    trial.openGate();
    await trial.completes(LITTLE);
  });

  test("that comes twice is not waited with", async () => {
    await using one = passed("unix");
    await using trial = await allSaid(one);
    // Signals that come before the first is heard are one with it.
    const timer = setInterval(() => trial.program.process.kill("SIGTERM"), 100);
    try {
      const message = /truncated: ended by SIGTERM$/;
      await trial.fails({ status: 128 + 15, message, whole: LITTLE });
    } finally {
      clearInterval(timer);
    }
  });

  test("while a client is in the middle does not wait for it", async () => {
    await using one = passed("unix");
    await using trial = await Trial.passed(stalled, { shell: ONE, passed: one.socket.fd });
    using client = await RawClient.transmission(one.where);
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 128 + 15, message: /truncated: ended by SIGTERM$/ });
  });
});

test("a broken rule is told to clients of a socket that was passed, too", async () => {
  await using one = passed("unix");
  await using trial = await Trial.passed("command", { shell: ONE, passed: one.socket.fd });
  using client = await RawClient.transmission(one.where);
  expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
  expect(await client.write(0, DATA.subarray(0, KiB))).toBe(ERROR.EIO);
  await trial.fails({ status: 4, message: /truncated: / });
});

describe("what is passed", () => {
  /** Runs the program in a shell that sets the variables; it must refuse, and say why. */
  async function refused(shell: string, args: readonly string[], passed?: number) {
    using folder = tempFolder();
    const line = `${shell}exec "$@"`;
    await using running = start(
      ["sh", "-c", line, "sh", ...PROGRAM, "serve", `pipe=${folder.file("fifo")}`, ...args],
      { passed },
    );
    const ended = await running.ended();
    expect(ended.stderr).toMatch(/^nbd-streaming: error: [^\n]+\n$/);
    expect(existsSync(folder.file("fifo"))).toBeFalse();
    return ended;
  }

  test.each(["0", "2", "many", ""])("has to be one socket, not LISTEN_FDS=%s", async (count) => {
    await using one = passed("unix");
    const shell = `export LISTEN_PID=$$ LISTEN_FDS='${count}'; `;
    expect(await refused(shell, [], one.socket.fd)).toMatchObject({
      status: 3,
      stderr: expect.stringContaining(`LISTEN_FDS=${count}: one socket is listened on`),
    });
  });

  test("has to be a socket", async () => {
    const { status, stderr } = await refused(`${ONE}exec 3< /dev/null; `, []);
    expect(stderr).toContain("the descriptor that was passed by LISTEN_FDS is no socket");
    expect(status).toBe(3);
  });

  test("has to be open", async () => {
    const { status, stderr } = await refused(`${ONE}exec 3<&-; `, []);
    expect(stderr).toContain("the descriptor that was passed by LISTEN_FDS is no socket");
    expect(status).toBe(3);
  });

  test("has to listen", async () => {
    const [one, other] = socketpair();
    using connected = new Owned(one);
    using _ = new Owned(other);
    const { status, stderr } = await refused(ONE, [], connected.fd);
    expect(stderr).toContain("the socket that was passed by LISTEN_FDS does not listen");
    expect(status).toBe(3);
  });

  test.each([[["-U", "s"]], [["-p", "0"]], [["-i", "127.0.0.1"]]])(
    "goes without %p",
    async (address) => {
      await using one = passed("unix");
      const { status, stderr } = await refused(ONE, address, one.socket.fd);
      expect(stderr).toContain(
        "-U, -p and -i cannot be combined with a socket that is passed by LISTEN_FDS",
      );
      expect(status).toBe(2);
    },
  );

  test("to another process is not for this one", async () => {
    using place = new Place();
    const env = { LISTEN_FDS: "2", LISTEN_PID: "1" };
    const args = ["serve", "pipe=fifo", "-U", place.file("nbd.sock")];
    await using program = startProgram(args, { cwd: place.path, env });
    await program.saying(/listening on nbd\+unix:/);
  });
});
