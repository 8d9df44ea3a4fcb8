import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { open } from "../../ffi/fd.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { deliver, deliverNow } from "../../src/files/deliver.ts";
import { explainFailure } from "../../src/files/place.ts";
import { Descriptors, fill, readAll, thrownBy } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const DEVICE = { kind: "device" } as const;
/** Longer than a pipe's buffer. */
const LONG = `${"x".repeat(1024 * 1024)}\n`;

/** Why a text was not delivered. */
async function failure(work: Promise<void>): Promise<string> {
  return explainFailure(
    await work.then(
      () => undefined,
      (error: unknown) => error,
    ),
  );
}

/** A FIFO with a reader that takes nothing. */
function fifo(descriptors: Descriptors, path: string): number {
  mkfifo(path, 0o600);
  return descriptors.keep(open(path, O_RDONLY | O_NONBLOCK));
}

describe("a text for a FIFO", () => {
  test("gets to a reader who is there", async () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const reader = fifo(descriptors, folder.file("f"));
    await deliver(DEVICE, folder.file("f"), "one\n", LIMIT);
    deliverNow(DEVICE, folder.file("f"), "two\n");
    expect(readAll(reader).toString()).toBe("one\ntwo\n");
  });

  test("waits for a reader who comes, and takes it bit by bit", async () => {
    using folder = tempFolder();
    mkfifo(folder.file("f"), 0o600);
    const delivery = deliver(DEVICE, folder.file("f"), LONG, LIMIT);
    await Bun.sleep(50);
    await using reader = start(["cat", folder.file("f")]);
    await delivery;
    expect((await reader.ended()).stdout === LONG).toBeTrue();
  });

  test("that nobody reads is given up", async () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    mkfifo(folder.file("alone"), 0o600);
    const nobody = "nobody reads it; start its reader first, or name a file";
    expect(await failure(deliver(DEVICE, folder.file("alone"), "x\n", 50))).toBe(nobody);
    expect(explainFailure(thrownBy(() => deliverNow(DEVICE, folder.file("alone"), "x\n")))).toBe(
      nobody,
    );
    fifo(descriptors, folder.file("f"));
    expect(await failure(deliver(DEVICE, folder.file("f"), LONG, 50))).toStartWith(
      "nobody reads it",
    );
  });

  test("is not written over a file that has taken its place", async () => {
    using folder = tempFolder();
    writeFileSync(folder.file("f"), "precious");
    const why = await failure(deliver(DEVICE, folder.file("f"), "x\n", LIMIT));
    expect(why).toStartWith("it is not what it was");
    expect(() => deliverNow(DEVICE, folder.file("f"), "x\n")).toThrow("it is not what it was");
    expect(readFileSync(folder.file("f"), "latin1")).toBe("precious");
    renameSync(folder.file("f"), folder.file("g"));
    expect(await failure(deliver(DEVICE, folder.file("f"), "x\n", LIMIT))).toContain(
      "No such file",
    );
  });
});

describe("a text for a descriptor", () => {
  test("is written where those who share it are", async () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const fd = descriptors.keep(openSync(folder.file("log"), "w"));
    writeFileSync(fd, "before\n");
    await deliver({ kind: "descriptor", fd }, "/dev/fd/N", "one\n", LIMIT);
    deliverNow({ kind: "descriptor", fd }, "/dev/fd/N", "two\n");
    expect(readFileSync(folder.file("log"), "latin1")).toBe("before\none\ntwo\n");
  });

  test("that nobody reads is given up", async () => {
    using descriptors = new Descriptors();
    const { write } = descriptors.pipe();
    fill(write);
    const work = deliver({ kind: "descriptor", fd: write }, "/dev/fd/N", "x\n", 50);
    expect(await failure(work)).toStartWith("nobody reads it");
  });
});

test("a device that is full is an error", async () => {
  expect(await failure(deliver(DEVICE, "/dev/full", "x\n", LIMIT))).toContain("No space left");
  await deliver(DEVICE, "/dev/null", "x\n", LIMIT);
});
