/** The programs of docs/library.md, as they stand there, where nbd-streaming is a package. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { blocksOf } from "../support/documented.ts";
import { type Image, qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { linkPackage } from "../support/linked.ts";
import { command, start } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const NO_ZSTD = Bun.which("zstd") === null;
const MiB = 1024 * 1024;
const SIZE = 64 * MiB;

const programs = blocksOf("docs/library.md").filter(({ language }) => language === "ts");

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());
let image: Image;

beforeAll(async () => {
  linkPackage(folder.path);
  for (const [index, name] of NAMES.entries()) {
    writeFileSync(folder.file(name), programs[index]?.text ?? "");
  }
  image = await qcow2Image(folder.file("disk.qcow2"), SIZE);
});

/** In the order of the page. */
const NAMES = ["run.ts", "serve.ts", "streams.ts", "app.ts"] as const;

const at = { cwd: folder.path };

test("each program of the page is tried here", () => {
  expect(programs).toHaveLength(NAMES.length);
});

describe.skipIf(NO_ZSTD)("the program that runs qemu-img", () => {
  const program = [process.execPath, "run.ts"];

  test("streams the disk, tells how far it is, and ends by itself", async () => {
    await using running = start(program, at);
    const { status, stdout, stderr } = await running.ended();
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(`${SIZE} of ${SIZE} bytes\n`);
    expect(stdout).toEndWith(`complete: ${SIZE} bytes, sha256 ${image.sha256}\n`);
    await command(["zstd", "-qdf", "disk.raw.zst", "-o", "disk.raw"], at);
    expect(await digestFile(folder.file("disk.raw"))).toBe(image.sha256);
  });

  test("fails where the image cannot be read", async () => {
    using empty = tempFolder();
    linkPackage(empty.path);
    writeFileSync(empty.file("run.ts"), readFileSync(folder.file("run.ts")));
    await using running = start(program, { cwd: empty.path });
    const { status, stderr } = await running.ended();
    expect(status).toBe(1);
    expect(stderr).toContain("cannot read disk.qcow2");
  });
});

test.skipIf(NO_ZSTD)("the program that serves gives the disk to a client", async () => {
  await command(["zstd", "-qf", "disk.qcow2.raw", "-o", "disk.raw.zst"], at);
  await using running = start([process.execPath, "serve.ts"], at);
  const socket = folder.file("nbd.sock");
  const copy = `until [ -S ${socket} ]; do sleep 0.05; done; nbdcopy 'nbd+unix:///?socket=${socket}' copy.raw`;
  await command(["sh", "-c", copy], at);
  expect(await running.ended()).toMatchObject({
    status: 0,
    stdout: "nbd+unix:///?socket=nbd.sock\n",
    stderr: "",
  });
  expect(await digestFile(folder.file("copy.raw"))).toBe(image.sha256);
});

describe.skipIf(NO_ZSTD)("the program of several streams", () => {
  const FILES = ["nbd.sock", "vda.raw.zst", "vdb.raw"];
  const socket = "nbd+unix:///NAME?socket=nbd.sock";
  const zeroes = (size: string) => `head -c ${size} /dev/zero`;

  /** Starts it, and copies to each export what a command line writes. */
  async function copied(vda: string, vdb: string) {
    for (const name of FILES) rmSync(folder.file(name), { force: true });
    await using running = start([process.execPath, "streams.ts"], at);
    await command(["sh", "-c", "until [ -S nbd.sock ]; do sleep 0.05; done"], at);
    for (const [name, line] of Object.entries({ vda, vdb })) {
      await command(["sh", "-c", `${line} | nbdcopy - '${socket.replace("NAME", name)}'`], at);
    }
    return await running.ended();
  }

  const URIS = ["vda", "vdb"].map((name) => socket.replace("NAME", name));

  test("tells where each is found, how each has ended, and what they have", async () => {
    const { status, stdout, stderr } = await copied(zeroes("64M"), zeroes("32M"));
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const lines = stdout.split("\n");
    expect(lines.slice(0, 2)).toEqual(URIS);
    // Either may be the last one whose command has ended.
    expect(lines.slice(2, 4).toSorted()).toEqual(["vda true", "vdb true"]);
    expect(lines.slice(4)).toEqual([`vda: ${64 * MiB} bytes, vdb: ${32 * MiB} bytes`, ""]);
    await command(["sh", "-c", "zstd -dc vda.raw.zst | cmp -n 32M - vdb.raw"], at);
  });

  test("tells which is truncated", async () => {
    const { status, stdout, stderr } = await copied(zeroes("64M"), zeroes("1M"));
    expect(status).toBe(4);
    expect(stdout.split("\n").slice(2, 4).toSorted()).toEqual(["vda true", "vdb false"]);
    expect(stderr).toMatch(/^vda complete\nvdb .*1048576.*\n$/);
  });
});

/** What `bun init` has, as far as it matters to those who look at types. */
const STRICT = {
  lib: ["ESNext"],
  target: "ESNext",
  module: "Preserve",
  moduleDetection: "force",
  moduleResolution: "bundler",
  allowImportingTsExtensions: true,
  verbatimModuleSyntax: true,
  noEmit: true,
  strict: true,
  skipLibCheck: true,
  noFallthroughCasesInSwitch: true,
  noUncheckedIndexedAccess: true,
  noImplicitOverride: true,
  types: ["bun-types"],
};

test("the programs have no type errors in a project that is as strict as a new one of Bun", async () => {
  writeFileSync(folder.file("tsconfig.json"), JSON.stringify({ compilerOptions: STRICT }));
  writeFileSync(
    folder.file("held.ts"),
    `import { type OwnOptions, run, serve } from "nbd-streaming";
const own: OwnOptions[] = [{ exportName: "vda", spool: "/var/tmp", hold: true }];
if (process.argv[2]) serve({ pipe: "x", spool: ".", hold: true });
if (process.argv[2]) run({ pipe: "x", command: "true", spool: ".", streams: own });
`,
  );
  await using running = start([process.execPath, "check"], at);
  const { status, stdout, stderr } = await running.ended();
  expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: expect.any(String) });
  writeFileSync(
    folder.file("wrong.ts"),
    'import { run } from "nbd-streaming";\nrun({ pip: "x" });\nrun({ hold: "no" });\n',
  );
  await using wrong = start([process.execPath, "check"], at);
  const found = await wrong.ended();
  expect(found.status).not.toBe(0);
  expect(found.stdout + found.stderr).toContain("'pip'");
  expect(found.stdout + found.stderr).toContain("'string' is not assignable to type 'boolean");
});
