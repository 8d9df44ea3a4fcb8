import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { UserError } from "../../src/errors.ts";
import { Listener } from "../../src/net/listener.ts";
import { thrownBy } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { AS_NOBODY, noNobody } from "../support/nobody.ts";
import { eventually, PROGRAM, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** Says hello to everybody. */
const HANDLER = {
  open: (socket: { write(text: string): void }) => socket.write("hello"),
  data() {},
} as never;

function listening(path: string): Listener {
  return new Listener({ kind: "unix", path }, HANDLER);
}

async function greeting(path: string): Promise<string> {
  using client = await RawClient.connect(path);
  return (await client.receive(5)).toString("latin1");
}

describe("a listener on a Unix socket", () => {
  test("takes clients, and leaves no file", async () => {
    using folder = tempFolder();
    const path = folder.file("s");
    const listener = listening(path);
    expect(lstatSync(path).isSocket()).toBeTrue();
    expect(await Promise.all([greeting(path), greeting(path)])).toEqual(["hello", "hello"]);
    listener.close();
    expect(existsSync(path)).toBeFalse();
    expect(thrownBy(() => lstatSync(path))).toMatchObject({ code: "ENOENT" });
  });

  test.each([0o022, 0o077, 0o002])("makes its file as umask %o has it", (mask) => {
    using folder = tempFolder();
    const before = process.umask(mask);
    try {
      const listener = listening(folder.file("s"));
      expect(lstatSync(folder.file("s")).mode & 0o777).toBe(0o777 & ~mask);
      listener.close();
    } finally {
      process.umask(before);
    }
  });

  test("leaves the socket of a server that has taken its place, which goes on", async () => {
    using folder = tempFolder();
    const path = folder.file("s");
    const first = listening(path);
    unlinkSync(path);
    const second = listening(path);
    first.close();
    expect(await greeting(path)).toBe("hello");
    second.close();
    expect(existsSync(path)).toBeFalse();
  });

  test("leaves a file of another kind that has taken its place", () => {
    using folder = tempFolder();
    const path = folder.file("s");
    const listener = listening(path);
    renameSync(path, folder.file("moved"));
    writeFileSync(path, "precious");
    listener.close();
    expect(readFileSync(path, "latin1")).toBe("precious");
  });

  test("removes its own file wherever the program is by then", () => {
    using folder = tempFolder();
    const before = process.cwd();
    process.chdir(folder.path);
    try {
      const listener = listening("s");
      process.chdir(before);
      writeFileSync(folder.file("t"), "");
      listener.close();
      expect(existsSync(folder.file("s"))).toBeFalse();
    } finally {
      process.chdir(before);
    }
  });

  test("is gone for clients when it is closed, and the place is free", async () => {
    using folder = tempFolder();
    const path = folder.file("s");
    for (let i = 0; i < 3; i++) {
      const listener = listening(path);
      expect(await greeting(path)).toBe("hello");
      listener.close();
      await eventually(() => !existsSync(path), "the file to be gone");
    }
  });

  test.each(["", "a\0b"])("is refused %j", (path) => {
    const error = thrownBy(() => listening(path));
    expect(error).toBeInstanceOf(UserError);
    expect(error).toMatchObject({ code: "ERR_LISTEN", exitStatus: 3 });
  });
});

/** Connects while this process does nothing else, and stays until it is told to go. */
function connectMeanwhile(path: string): void {
  const script = `require("node:net").connect(${JSON.stringify(path)}, () => process.exit())`;
  const { exitCode } = Bun.spawnSync([process.execPath, "-e", script]);
  expect(exitCode).toBe(0);
}

test("somebody who is connected and was not accepted yet is waiting", async () => {
  using folder = tempFolder();
  const path = folder.file("socket");
  let accepted = 0;
  const listener = new Listener({ kind: "unix", path }, {
    open: () => void accepted++,
    data: () => {},
  } as never);
  try {
    expect(listener.hasWaiting).toBeFalse();
    connectMeanwhile(path);
    expect([listener.hasWaiting, accepted]).toEqual([true, 0]);
    await eventually(() => accepted === 1, "the client to be accepted");
    expect(listener.hasWaiting).toBeFalse();
  } finally {
    listener.close();
  }
});

test.skipIf(noNobody !== undefined)(
  "a socket is removed though a folder above the program's own is closed to it (needs root)",
  async () => {
    using folder = tempFolder();
    const inner = folder.file("inner");
    mkdirSync(inner);
    chmodSync(inner, 0o777);
    chmodSync(folder.path, 0o700);
    const words = [...AS_NOBODY, ...PROGRAM, "serve", "pipe=exec:cat >/dev/null", "-U", "s"];
    await using program = start(words, { cwd: inner });
    await program.saying(/listening on/);
    expect(existsSync(`${inner}/s`)).toBeTrue();
    program.process.kill("SIGTERM");
    expect((await program.ended()).status).toBe(143);
    expect(existsSync(`${inner}/s`)).toBeFalse();
  },
);
