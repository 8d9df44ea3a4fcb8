/** A program that was started with the other end of its own stream would wait for it in vain. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { type BoundAddress, boundAddress, connect, internetAddress } from "../../ffi/socket.ts";
import { Descriptors } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { type Ended, PROGRAM, start } from "../support/program.ts";
import { shell } from "../support/shell.ts";
import { accepted, ANY_PORT, listening } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

describe("a FIFO of which the program has the other end, too, is refused", () => {
  test.each([
    { line: 'program run pipe=fd:3 "$@" 3<> fifo', says: "it is open for reading, too" },
    { line: 'program run pipe=- "$@" 1<> fifo', says: "it is open for reading, too" },
    { line: 'program run pipe=fifo "$@" 4<> fifo', says: "descriptor 4 of the program reads" },
    { line: 'program run pipe=- "$@" 4<> fifo 1> fifo', says: "descriptor 4 of the program reads" },
    {
      line: 'program run pipe=- "$@" 4<> fifo 1> fifo 0< fifo 4>&-',
      says: "descriptor 0 of the program reads from it, too: that its reader has ended would",
    },
    { line: 'program run pipe=/dev/fd/5 "$@" 5<> fifo', says: "descriptor 5 of the program reads" },
    { line: 'program run read=fd:3 "$@" 3<> fifo', says: "it is open for writing, too" },
    { line: 'program run read=- "$@" 0<> fifo', says: "it is open for writing, too" },
    { line: 'program run read=fifo "$@" 4<> fifo', says: "descriptor 4 of the program writes" },
    {
      line: 'program run read=- "$@" 4<> fifo 0< fifo 5> fifo 4>&-',
      says: "descriptor 5 of the program writes into it, too: its end would never come; close",
    },
    { line: "program serve pipe=fd:3 -U sock 3<> fifo", says: "it is open for reading, too" },
  ])("$line", async ({ line, says }) => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o600);
    expectRefusal(
      folder,
      await shell(line, ["size=1M", "--", "touch started"], { cwd: folder.path }),
      says,
    );
  });

  test("and check tells it", async () => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o600);
    for (const [target, says] of [
      ["fifo", "descriptor 4 of the program reads from it, too"],
      ["fd:4", "it is open for reading, too"],
    ]) {
      const line = `program check pipe=${target} 4<> fifo`;
      const { status, stdout } = await shell(line, [], { cwd: folder.path });
      expect(status).toBe(3);
      expect(stdout).toContain(says as string);
    }
  });
});

test.each(["pipe", "read"])("a FIFO that only others have open is not (%s=)", async (key) => {
  using folder = tempFolder();
  mkfifo(folder.file("fifo"), 0o600);
  // The shell keeps both ends, and does not pass them on.
  const line = `exec 4<> fifo; head -c 512 fifo > /dev/null & head -c 512 /dev/zero > fifo &
    program run ${key}=fifo size=512 -- true 4<&-`;
  const { stderr } = await shell(line, [], { cwd: folder.path });
  expect(stderr).not.toContain("cannot be used");
});

describe.each(["pipe", "read"])("a socket whose other end the program has, too (%s=)", (key) => {
  test("is refused when they are a pair", async () => {
    using fds = new Descriptors();
    expectRefusal(
      undefined,
      await passing(key, fds.socketpair()),
      "its other end is the program's",
    );
  });

  test("is refused when they are connected over TCP", async () => {
    using fds = new Descriptors();
    using listener = listening(ANY_PORT);
    const { port } = boundAddress(listener.fd) as BoundAddress & { kind: "tcp" };
    const near = fds.keep(connect(internetAddress(Uint8Array.of(127, 0, 0, 1), port), "it"));
    using far = accepted(listener);
    const ended = await passing(key, [near, far.fd]);
    expectRefusal(undefined, ended, "its other end is the program's, too, as descriptor 4");
  });

  test("is not when the other descriptors are other sockets", async () => {
    using fds = new Descriptors();
    const [near] = fds.socketpair();
    const [other] = fds.socketpair();
    const { stderr } = await passing(key, [near, other]);
    expect(stderr).not.toContain("cannot be used");
  });
});

/** `run` with descriptor 3 as its endpoint, and another one, 4, for nothing. */
async function passing(key: string, passed: readonly number[]): Promise<Ended> {
  const words = ["run", `${key}=fd:3`, "size=1M", "--", "false"];
  await using program = start([...PROGRAM, ...words], { passed });
  return await program.ended();
}

function expectRefusal(
  folder: { file(name: string): string } | undefined,
  { status, stderr }: Ended,
  says: string,
): void {
  expect(status, stderr).toBe(3);
  expect(stderr).toMatch(/^nbd-streaming: error: [^\n]+ cannot be used: [^\n]+\n$/);
  expect(stderr).toContain(says);
  if (folder !== undefined) expect(existsSync(folder.file("started"))).toBeFalse();
}
