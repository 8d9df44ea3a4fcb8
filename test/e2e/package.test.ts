/** The package, installed where there is no checkout. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { commitAll, copyCheckout, shown } from "../support/checkout.ts";
import { qcow2Image } from "../support/images.ts";
import { command, ROOT, start } from "../support/program.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const NO_GIT = Bun.which("git") === null;
const NO_NPM = Bun.which("npm") === null;
const TARBALL = `nbd-streaming-${packageJson.version}.tgz`;

/** The scripts of a package, and its program, look for `bun`. */
const bin = folder.file("bin");
const env = { PATH: `${bin}:${process.env.PATH}` };
const checkout = folder.file("checkout");
let commit: string | undefined;
let tarball: string;

beforeAll(async () => {
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, "bun"));
  copyCheckout(checkout);
  if (!NO_GIT) commit = await commitAll(checkout);
  tarball = await packed("by-bun", [process.execPath, "pm", "pack", "--destination"]);
});

/** Packs the checkout by a command that takes the folder for it as its last word. */
async function packed(name: string, cmd: readonly string[]): Promise<string> {
  const path = folder.file(name);
  mkdirSync(path);
  await command([...cmd, path], { cwd: checkout, env });
  return join(path, TARBALL);
}

async function contents(path: string): Promise<string[]> {
  const list = await command(["tar", "-tzf", path]);
  return list
    .split("\n")
    .filter((name) => name !== "")
    .map((name) => name.replace("package/", ""))
    .toSorted();
}

const LAUNCHER = "bin/nbd-streaming.js";
const BUNDLES = ["bundles/program.js", "bundles/stream.worker.js"];

const OTHERS = [
  ...["CHANGELOG.md", "LICENSE", "README.md", "package.json", LAUNCHER],
  ...BUNDLES.flatMap((name) => [name, `${name}.jsc`]),
  "bundles/LICENCES.txt",
  ...["completions/bash/nbd-streaming", "completions/fish/nbd-streaming.fish"],
  ...["completions/zsh/_nbd-streaming", "man/nbd-streaming.1"],
  ...["docs", "examples"].flatMap((room) =>
    readdirSync(join(ROOT, room)).map((name) => `${room}/${name}`),
  ),
];

describe("the package", () => {
  test("has the sources, and of the rest only what users need", async () => {
    const files = await contents(tarball);
    const isSource = (name: string) => /^(src|ffi)\//.test(name);
    const sources = ["src", "ffi"].flatMap((room) =>
      (readdirSync(join(ROOT, room), { recursive: true }) as string[])
        .filter((name) => name.endsWith(".ts"))
        .map((name) => `${room}/${name}`),
    );
    expect(files.filter(isSource)).toEqual(sources.toSorted());
    const noted = NO_GIT ? [] : ["COMMIT"];
    expect(files.filter((name) => !isSource(name))).toEqual([...OTHERS, ...noted].toSorted());
  });

  test.skipIf(NO_NPM)("is the same by npm", async () => {
    const other = await packed("by-npm", ["npm", "pack", "--pack-destination"]);
    expect(await contents(other)).toEqual(await contents(tarball));
  });

  test("leaves nothing behind in the checkout", () => {
    const names = readdirSync(checkout);
    for (const made of ["COMMIT", "bundles", "completions"]) expect(names).not.toContain(made);
  });

  test.skipIf(NO_GIT || NO_NPM)("is nothing new for git where npm puts it", async () => {
    await command(["npm", "pack"], { cwd: checkout, env });
    expect(readdirSync(checkout)).toContain(TARBALL);
    expect(await command(["git", "status", "--porcelain"], { cwd: checkout })).toBe("");
  });
});

test.skipIf(NO_NPM)("npm install -g links the program and the man page", async () => {
  const copy = folder.file("lonely");
  copyCheckout(copy);
  // What it needs would come from the registry.
  const lonely = { ...packageJson, dependencies: {}, devDependencies: {} };
  writeFileSync(join(copy, "package.json"), JSON.stringify(lonely));
  await command(["npm", "pack", "--ignore-scripts"], { cwd: copy, env });
  const prefix = folder.file("prefix");
  const install = ["npm", "install", "-g", "--offline", "--prefix", prefix, join(copy, TARBALL)];
  await command(install, { cwd: copy, env });
  const own = realpathSync(join(prefix, "lib/node_modules/nbd-streaming"));
  expect(realpathSync(join(prefix, "bin/nbd-streaming"))).toBe(join(own, LAUNCHER));
  const page = join(own, "man/nbd-streaming.1");
  expect(realpathSync(join(prefix, "share/man/man1/nbd-streaming.1"))).toBe(page);
});

test("a checkout's program runs from its sources, which it has no bundles of", async () => {
  const said = await command([join(checkout, LAUNCHER), "--version"], { env });
  expect(said).toStartWith(`nbd-streaming ${packageJson.version} `);
  expect(said).toBe(await command([process.execPath, join(checkout, "src/main.ts"), "--version"]));
});

/** An unpacked package, with nothing around it. */
describe("the bundles", () => {
  const alone = folder.file("alone/package");
  const program = [process.execPath, join(alone, LAUNCHER)];
  const at = { cwd: folder.path };
  const away = `${checkout}-elsewhere`;

  beforeAll(async () => {
    mkdirSync(folder.file("alone"));
    await command(["tar", "-xzf", tarball, "-C", folder.file("alone")]);
    for (const room of ["src", "ffi"]) rmSync(join(alone, room), { recursive: true });
    renameSync(checkout, away);
  });
  afterAll(() => renameSync(away, checkout));

  /** The check has to be good, too, which runs both bundles. */
  async function worksWith(change: (file: string) => void): Promise<void> {
    const files = BUNDLES.map((name) => join(alone, `${name}.jsc`));
    const before = files.map((file) => readFileSync(file));
    for (const file of files) change(file);
    try {
      expect(await command([...program, "check"], at)).toEndWith("\nall is well\n");
    } finally {
      for (const [index, file] of files.entries()) writeFileSync(file, before[index] as Buffer);
    }
  }

  test("are the whole program: the self-test is well without sources and dependencies", async () => {
    await worksWith(() => {});
  });

  test("stream the exact disk from qemu-img", async () => {
    const { path, sha256 } = await qcow2Image(folder.file("alone.qcow2"), 16 * 1024 * 1024);
    expect(await streamed([path], { program, ...at })).toBe(sha256);
  });

  test.skipIf(NO_GIT)("name the commit, and not the folder in which they were made", async () => {
    expect(await command([...program, "--version"], at)).toContain(shown(commit as string));
    for (const name of BUNDLES) {
      expect(readFileSync(join(alone, name), "utf8")).not.toContain(checkout);
    }
  });

  test("print the help and the man page", async () => {
    const page = readFileSync(join(ROOT, "man/nbd-streaming.1"), "utf8");
    expect(await command([...program, "man"], at)).toBe(page);
    const help = await command([process.execPath, join(ROOT, "src/main.ts"), "run", "--help"]);
    expect(await command([...program, "run", "--help"], at)).toBe(help);
  });

  test("work without their bytecode", async () => {
    await worksWith((file) => rmSync(file));
  });

  test.each([0, 1, 20, 5_000, 100_000])("work with the first %d bytes of it", async (bytes) => {
    await worksWith((file) => truncateSync(file, bytes));
  });

  // Its version is at the beginning.
  test.each([0, 4, 20, 100_000])("work with other bytes at %d in it", async (position) => {
    await worksWith((file) => {
      const bytes = readFileSync(file);
      bytes.fill(0xa5, position, position + 64);
      writeFileSync(file, bytes);
    });
  });

  test("work with the bytecode of another program", async () => {
    const [, worker] = BUNDLES.map((name) => readFileSync(join(alone, `${name}.jsc`)));
    await worksWith((file) => writeFileSync(file, worker as Buffer));
  });

  test.each([
    ["is missing", undefined, "stream.worker.js"],
    ["crashes", 'throw new Error("the trial crashes");', "the trial crashes"],
  ])("end with an error if that of the stream thread %s", async (_, text, message) => {
    const worker = join(alone, BUNDLES[1] as string);
    renameSync(worker, `${worker}.away`);
    if (text !== undefined) writeFileSync(worker, text);
    try {
      const words = ["serve", "pipe=/dev/null", "size=1M", "-U", folder.file("alone.sock")];
      await using running = start([...program, ...words], at);
      const { status, stderr } = await running.ended();
      expect(stderr).toMatch(new RegExp(`error: internal error: .*${message}`));
      expect(status).toBe(1);
    } finally {
      renameSync(`${worker}.away`, worker);
    }
  });
});

describe("the installed package", () => {
  const place = folder.file("place");
  const program = [process.execPath, "x", "--no-install", "nbd-streaming"];
  const at = { cwd: place, env };

  beforeAll(async () => {
    mkdirSync(place);
    // The versions that the lock file has, and no newer ones.
    const dependencies = Object.fromEntries(
      Object.keys(packageJson.dependencies).map((name) => {
        const manifest = readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8");
        return [name, (JSON.parse(manifest) as { version: string }).version];
      }),
    );
    writeFileSync(join(place, "package.json"), JSON.stringify({ private: true, dependencies }));
    await command([process.execPath, "add", tarball], at);
  });

  test("streams the exact disk from qemu-img by bunx", async () => {
    const { path, sha256 } = await qcow2Image(folder.file("disk.qcow2"), 16 * 1024 * 1024);
    const convert = ["--", "qemu-img", "convert", "-n", "-O", "raw", path, "$nbd"];
    expect(await streamed(convert, { program, ...at })).toBe(sha256);
    expect(await streamed([path], { program, ...at })).toBe(sha256);
  });

  test("is a library for a program there", async () => {
    const lines = [
      'import { run } from "nbd-streaming";',
      'const command = ["qemu-io", "-f", "raw", "-c", "write -q -P 7 0 64k", "$uri"];',
      'console.log(await run({ pipe: "exec:sha256sum", command, checksum: "sha256" }));',
    ];
    writeFileSync(join(place, "app.ts"), lines.join("\n"));
    const said = await command([process.execPath, "app.ts"], at);
    const digest = new Bun.CryptoHasher("sha256").update(Buffer.alloc(65536, 7)).digest("hex");
    expect(said).toContain(`${digest}  -\n`);
    expect(said).toContain(`digest: "${digest}"`);
  });

  test.skipIf(NO_GIT)("tells the version, and the commit that it was packed of", async () => {
    expect(await command([...program, "--version"], at)).toBe(
      `nbd-streaming ${packageJson.version} (commit ${shown(commit as string)})\n`,
    );
  });

  test.each([
    ["man", "man/nbd-streaming.1"],
    ["completions bash", "completions/bash/nbd-streaming"],
    ["completions zsh", "completions/zsh/_nbd-streaming"],
    ["completions fish", "completions/fish/nbd-streaming.fish"],
  ])("has what it prints by %s", async (words, file) => {
    const installed = readFileSync(join(place, "node_modules/nbd-streaming", file), "utf8");
    expect(await command([...program, ...words.split(" ")], at)).toBe(installed);
  });
});
