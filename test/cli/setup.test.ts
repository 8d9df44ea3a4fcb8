import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import { mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { bounded, start, startProgram } from "../support/program.ts";
import { RawClient } from "../support/nbd-client.ts";
import { Place } from "./refusal.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** A listener of somebody else. */
const somebody = { socket: { data() {} } };

describe("the pipe cannot be", () => {
  test("a regular file, which stays as it is", async () => {
    using place = new Place();
    writeFileSync(place.file("disk"), "precious");
    expect(await place.refusal(["serve", "pipe=disk", "-U", "s"], 3)).toStartWith(
      "pipe=disk cannot be used: it is a regular file, not a pipe; ",
    );
  });

  test("a folder", async () => {
    using place = new Place();
    mkdirSync(place.file("folder"));
    expect(await place.refusal(["serve", "pipe=folder", "-U", "s"], 3)).toStartWith(
      "pipe=folder cannot be used: it is a folder; ",
    );
  });

  test("a device that is not there any more", async () => {
    using place = new Place();
    expect(await place.refusal(["run", "pipe=/dev/nothing/x", "--", "true"], 3)).toStartWith(
      "pipe=/dev/nothing/x cannot be used: ",
    );
  });

  test("a socket on which nobody listens", async () => {
    using place = new Place();
    writeFileSync(
      place.file("leave.ts"),
      'Bun.listen({ unix: "socket", socket: { data() {} } }); process.kill(process.pid, "SIGKILL");',
    );
    await start([process.execPath, "leave.ts"], { cwd: place.path }).ended();
    const message = await place.refusal(["serve", "pipe=socket", "-U", "s"], 3);
    expect(message).toStartWith("pipe=socket cannot be used: nobody can be reached there ");
    expect(message).toEndWith("; start the program that listens on it first");
  });

  test("a symbolic link to nothing", async () => {
    using place = new Place();
    symlinkSync("nothing", place.file("link"));
    expect(await place.refusal(["serve", "pipe=link", "-U", "s"], 3)).toStartWith(
      "pipe=link cannot be used: it is a symbolic link to nothing; ",
    );
  });

  test.each(["missing/x", "file/x"])("in what is no folder: %s", async (path) => {
    using place = new Place();
    writeFileSync(place.file("file"), "");
    const message = await place.refusal(["run", `pipe=${path}`, "--", "true"], 3);
    expect(message).toStartWith(`pipe=${path} cannot be used: `);
    expect(message).toContain("check the folder");
  });
});

describe("the server cannot listen", () => {
  test("on a port that is in use", async () => {
    using place = new Place();
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, ...somebody });
    try {
      const args = ["serve", "pipe=x", "-p", String(listener.port)];
      expect(await place.refusal(args, 3)).toBe(
        `cannot listen on 127.0.0.1 port ${listener.port}: another server uses it: ` +
          "choose another port with -p",
      );
    } finally {
      listener.stop(true);
    }
  });

  test("on an address of another machine", async () => {
    using place = new Place();
    // An address for documentation, which no machine has (RFC 5737).
    const args = ["serve", "pipe=x", "-i", "203.0.113.9", "-p", "0"];
    expect(await place.refusal(args, 3)).toBe(
      "cannot listen on 203.0.113.9 port 0: this machine does not have the address: check -i",
    );
  });

  test("on a path that is in use, whose server goes on", async () => {
    using place = new Place();
    const listener = Bun.listen({ unix: place.file("s"), ...somebody });
    try {
      expect(await place.refusal(["serve", "pipe=x", "-U", "s"], 3)).toBe(
        "cannot listen on s: another server uses it, or has left it behind: remove it",
      );
      const client = connect(place.file("s"));
      await bounded(
        new Promise((resolve, reject) => client.on("connect", resolve).on("error", reject)),
        "a connection",
      );
      client.destroy();
    } finally {
      listener.stop(true);
    }
  });

  test("in a folder that is not there", async () => {
    using place = new Place();
    expect(await place.refusal(["serve", "pipe=x", "-U", "missing/s"], 3)).toBe(
      "cannot listen on missing/s: the folder does not exist: make it first",
    );
  });

  test("on a path of 108 bytes", async () => {
    using place = new Place();
    const path = place.file("s".repeat(108 - place.path.length - 1));
    expect(await place.refusal(["serve", "pipe=x", "-U", path], 3)).toStartWith(
      `cannot listen on ${path}: the path has 108 bytes, a Unix socket's at most 107; `,
    );
  });
});

test("the server can listen on a path of 107 bytes, and leaves nothing there", async () => {
  using place = new Place();
  const path = place.file("s".repeat(107 - place.path.length - 1));
  await using program = startProgram(["serve", "pipe=x", "-U", path], { cwd: place.path });
  await program.saying(/listening on /);
  using client = await RawClient.connect(path);
  expect((await client.receive(18)).toString("latin1")).toStartWith("NBDMAGIC");
  program.process.kill("SIGTERM");
  expect((await program.ended()).status).toBe(143);
  expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
  expect(statSync(place.file("x"), { throwIfNoEntry: false })).toBeUndefined();
});

test("a pipe that was there before stays when nothing comes of it", async () => {
  using place = new Place();
  mkfifo(place.file("x"), 0o640);
  await place.refusal(["serve", "pipe=x", "-U", "missing/s"], 3);
  expect(statSync(place.file("x")).isFIFO()).toBeTrue();
});

test.each([
  { far: "a sink", target: "pipe=exec:cat > /dev/null; touch done" },
  { far: "a source", target: "read=exec:sleep 60" },
])("a command that is $far has ended, before it took anything for whole", async ({ target }) => {
  using place = new Place();
  // It holds the program's standard error: who waits for the end of that waits for the command.
  await place.refusal(["serve", target, "size=1M", "-U", "missing/s"], 3);
});

test("a pid file that cannot be written is an error", async () => {
  using place = new Place();
  const args = ["serve", "pipe=x", "-U", "s", "-P", "missing/pid"];
  expect(await place.refusal(args, 3)).toStartWith("cannot write --pidfile: ");
});

describe("there is nothing to run", () => {
  test("when the command does not exist", async () => {
    using place = new Place();
    expect(await place.refusal(["run", "pipe=x", "--", "no-such-command", "a"], 127)).toStartWith(
      "cannot run no-such-command: there is no such command; ",
    );
  });

  test("when the command is not executable", async () => {
    using place = new Place();
    writeFileSync(place.file("script"), "#!/bin/sh\n", { mode: 0o600 });
    expect(await place.refusal(["run", "pipe=x", "--", "./script", "a"], 126)).toStartWith(
      "cannot run ./script: ",
    );
  });

  test("when the image does not exist", async () => {
    using place = new Place();
    expect(await place.refusal(["run", "pipe=x", "missing.qcow2"], 3)).toStartWith(
      "cannot read missing.qcow2: qemu-img: ",
    );
  });

  test("when the image has another format than the one given", async () => {
    using place = new Place();
    writeFileSync(place.file("disk"), Buffer.alloc(4096, 7));
    expect(await place.refusal(["run", "pipe=x", "-f", "qcow2", "disk"], 3)).toStartWith(
      "cannot read disk: qemu-img: ",
    );
  });

  test("when qemu-img is not installed: the package is named", async () => {
    using place = new Place();
    mkdirSync(place.file("bin"));
    symlinkSync(process.execPath, place.file("bin/bun"));
    writeFileSync(place.file("disk"), Buffer.alloc(512));
    const message = await place.refusal(["run", "pipe=x", "disk"], 127, {
      PATH: place.file("bin"),
    });
    expect(message).toContain("install the package qemu-utils");
  });
});
