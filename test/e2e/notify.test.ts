/** What a service manager is told: READY=1 and STOPPING=1 (sd_notify(3)). */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { abstractAddress, unixAddress } from "../../ffi/socket.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { ROOT, start, startProgram } from "../support/program.ts";
import { Mailbox } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const BYTES = Buffer.alloc(4096, 7);

/** Starts `serve` with a sink that is a command. */
function serve(folder: ReturnType<typeof tempFolder>, notify: string, sink = "cat > /dev/null") {
  return startProgram(["serve", `pipe=exec:${sink}`, "-U", folder.file("nbd.sock")], {
    cwd: folder.path,
    env: { NOTIFY_SOCKET: notify },
  });
}

/** Writes, and leaves as clients should. */
async function copy(folder: ReturnType<typeof tempFolder>): Promise<void> {
  using client = await RawClient.transmission(folder.file("nbd.sock"));
  expect(await client.write(0, BYTES)).toBe(0);
  client.disconnect();
  await client.closed();
}

describe.each(["a path", "an abstract name"])("NOTIFY_SOCKET with %s", (kind) => {
  function mailbox(folder: ReturnType<typeof tempFolder>) {
    const path = folder.file("notify");
    const name = `nbd-streaming-test-${randomUUID()}`;
    return kind === "a path"
      ? { box: new Mailbox(unixAddress(path)), where: path }
      : { box: new Mailbox(abstractAddress(name)), where: `@${name}` };
  }

  test("is told when clients can connect, and when the stream is ending", async () => {
    using folder = tempFolder();
    const { box: opened, where } = mailbox(folder);
    using box = opened;
    await using program = serve(folder, where);
    expect(await box.count(1)).toEqual(["READY=1"]);
    await copy(folder);
    expect(await program.ended()).toMatchObject({ status: 0 });
    expect(box.letters).toEqual(["READY=1", "STOPPING=1"]);
  });

  test("is told when a signal ends it", async () => {
    using folder = tempFolder();
    const { box: opened, where } = mailbox(folder);
    using box = opened;
    await using program = serve(folder, where);
    await box.count(1);
    program.process.kill("SIGTERM");
    expect(await program.ended()).toMatchObject({ status: 128 + 15 });
    expect(box.letters).toEqual(["READY=1", "STOPPING=1"]);
  });
});

test("a command line that is wrong tells nothing", async () => {
  using folder = tempFolder();
  using box = new Mailbox(unixAddress(folder.file("notify")));
  await using program = startProgram(["serve", "pipe=x", "-U", ""], {
    env: { NOTIFY_SOCKET: folder.file("notify") },
  });
  expect(await program.ended()).toMatchObject({ status: 2 });
  expect(box.letters).toEqual([]);
});

test.each([
  ["a path where nobody listens", "missing"],
  ["an abstract name that nobody has", "@nbd-streaming-test-nobody"],
  ["a name that is too long", `/${"x".repeat(200)}`],
  ["a name of another kind", "vsock:2:1234"],
])("%s is a warning, and no more", async (_, where) => {
  using folder = tempFolder();
  await using program = serve(folder, where);
  await program.saying(/warn: cannot tell the service manager READY=1: /);
  await copy(folder);
  const { status, stderr } = await program.ended();
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(/: complete\n$/);
});

test("an empty NOTIFY_SOCKET is none", async () => {
  using folder = tempFolder();
  await using program = serve(folder, "");
  await program.saying(/listening on/);
  await copy(folder);
  const { status, stderr } = await program.ended();
  expect(status).toBe(0);
  expect(stderr).not.toContain("service manager");
});

const UNITS = join(ROOT, "packaging/systemd");
test("the service of several streams is kept from the same things as that of one", () => {
  const settings = (name: string) =>
    readFileSync(join(UNITS, name), "utf8")
      .split(/^# What it does not need\..*$/m)[1]
      ?.split("\n")
      .filter((line) => !/^(#|TasksMax=)/.test(line));
  expect(settings("nbd-streaming@.service")?.length).toBeGreaterThan(20);
  expect(settings("nbd-streaming@.service")).toEqual(settings("nbd-streaming.service"));
});

const analyze = Bun.which("systemd-analyze");

test.skipIf(analyze === null)("systemd finds no fault with the units", async () => {
  using folder = tempFolder();
  // The program that they start has to be there.
  const units = readdirSync(UNITS).map((name) => folder.file(name));
  for (const unit of units) {
    const text = await Bun.file(join(UNITS, unit.slice(folder.path.length + 1))).text();
    await Bun.write(unit, text.replaceAll("/usr/local/bin/nbd-streaming", "/bin/sh"));
  }
  expect(units.length).toBe(4);
  // Their man page comes with a package.
  await using verifying = start([analyze as string, "verify", "--man=no", ...units]);
  const { status, stdout, stderr } = await verifying.ended();
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
});
