/** How the program is installed, by README, docs/install.md and packaging/README.md. */
import { expect } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../../package.json" with { type: "json" };
import { debName } from "../../../packaging/deb/package.ts";
import { TARBALL } from "../../../packaging/release/tarball.ts";
import { rpmName } from "../../../packaging/rpm/package.ts";
import { documentedBlock } from "../documented.ts";
import { ROOT } from "../program.ts";
import type { Scene, Stage } from "./stage.ts";
import { BUNX, NPX, service, SYSTEMCTL } from "./stand-ins.ts";

const UNITS = ["nbd-streaming.socket", "nbd-streaming.service"];
const TEMPLATES = ["nbd-streaming@.socket", "nbd-streaming@.service"];

const read = (...path: string[]) => readFileSync(join(...path), "utf8");

/** Both folders belong to root. */
const FOLDERS = [
  ["/usr/local/bin/", "bin/"],
  ["/etc/systemd/system/", "system/"],
] as const;

/** Package managers, which note what they are told; `bun run test:packages` has the real ones. */
const INSTALLERS = {
  apt: service({
    [`install ./${debName("linux-x64")}`]: "echo apt install >> told\n",
    "purge --autoremove nbd-streaming": "echo apt remove >> told\n",
  }),
  dnf: service({
    [`install ./${rpmName("linux-x64")}`]: "echo dnf install >> told\n",
    "remove nbd-streaming": "echo dnf remove >> told\n",
  }),
  npm: service({
    [`install -g bun ${TARBALL}`]: "echo npm install >> told\n",
    "uninstall -g nbd-streaming bun": "echo npm remove >> told\n",
  }),
};

export const INSTALLATION: readonly Scene[] = [
  {
    document: "README.md",
    block: "npm install -g",
    title: "installs what a release has, in three ways",
    commands: INSTALLERS,
    before: withBinary,
    replaced: () => [FOLDERS[0]],
    async after(stage) {
      expect(read(stage.file("told"))).toBe("npm install\napt install\n");
      expect(await stage.shell("bin/nbd-streaming")).toBe("the program\n");
    },
  },
  {
    document: "docs/install.md",
    block: "bun install ",
    title: "runs in a checkout, and is built there",
    checkout: true,
    async after(stage, { stdout }) {
      expect(stdout).toContain(await stage.shell("nbd-streaming --help"));
      expect(await stage.shell("dist/nbd-streaming --version")).toStartWith(
        `nbd-streaming ${packageJson.version} `,
      );
    },
  },
  {
    document: "docs/install.md",
    block: "sha256sum",
    title: "verifies a file that was downloaded, of all that a release has",
    before: (stage) => stage.shell("echo x > a; echo y > b; sha256sum a b > SHA256SUMS; rm b"),
    after: (_, { stdout }) => expect(stdout).toBe("a: OK\n"),
  },
  {
    document: "docs/install.md",
    block: "sha256sum",
    title: "notices a file that is another",
    before: (stage) => stage.shell("echo x > a; sha256sum a > SHA256SUMS; echo y > a"),
    status: 1,
  },
  {
    document: "docs/install.md",
    block: "install -m 755",
    title: "installs the binary",
    before: withBinary,
    replaced: () => [FOLDERS[0]],
    after: async (stage) => expect(await stage.shell("bin/nbd-streaming")).toBe("the program\n"),
  },
  {
    document: "docs/install.md",
    block: "rm /usr",
    title: "removes the binary",
    before(stage) {
      mkdirSync(stage.file("bin"));
      writeFileSync(stage.file("bin/nbd-streaming"), "");
    },
    replaced: () => [FOLDERS[0]],
    after: (stage) => expect(readdirSync(stage.file("bin"))).toEqual([]),
  },
  ...[
    ["apt install", "apt install"],
    ["apt purge", "apt remove"],
    ["dnf install", "dnf install"],
    ["dnf remove", "dnf remove"],
    ["npm install", "npm install"],
    ["npm uninstall", "npm remove"],
  ].map(([block = "", told]) => ({
    document: "docs/install.md",
    block,
    title: `has the line for ${told}, with a file that a release has`,
    commands: INSTALLERS,
    after: (stage: Stage) => expect(read(stage.file("told"))).toBe(`${told}\n`),
  })),
  {
    document: "docs/install.md",
    block: "npm pack",
    title: "is packed, and runs from the package",
    needs: ["npm", "tar"],
    checkout: true,
    commands: { bunx: BUNX },
    after: async (stage, { stdout }) =>
      expect(stdout).toEndWith(await stage.shell("nbd-streaming --help")),
  },
  demo("shows the main job with a qcow2", /-- qemu-img convert -n .* '\$nbd'\n/, {
    needs: ["qemu-img", "qemu-io"],
  }),
  demo("shows the main job where there is nothing but npm", /-- bun demo\/client\.ts /, {
    only: ["bash", "sh"],
  }),
  {
    document: "README.md",
    block: "run test:debian",
    // The tests would run themselves.
    title: "names a script that CI runs by the same line (it is not run here)",
    commands: { npx: '[ "$*" = "--yes bun run test:debian" ] && echo "tested"\n' },
    after(_, { stdout }) {
      expect(stdout).toBe("tested\n");
      expect(packageJson.scripts["test:debian"]).toBe("sh test/debian.sh");
      const { text } = documentedBlock("README.md", "run test:debian");
      expect(read(ROOT, ".ci/run")).toContain(`\n${text.trim()} `);
    },
  },
  {
    document: "docs/install.md",
    block: "| man -l -",
    title: "shows the man page, and completes in bash",
    needs: ["man"],
    then: "complete -p nbd-streaming",
    after(_, { stdout }) {
      expect(stdout).toContain("SYNOPSIS");
      expect(stdout).toEndWith("complete -F _nbd_streaming nbd-streaming\n");
    },
  },
  {
    document: "docs/install.md",
    block: "completions zsh",
    title: "completes in zsh",
    needs: ["zsh"],
    then: "print ${_comps[nbd-streaming]}",
    after: (_, { stdout }) => expect(stdout).toBe("_nbd-streaming\n"),
  },
  {
    document: "docs/install.md",
    block: "completions fish",
    title: "completes in fish",
    needs: ["fish"],
    then: "complete -C 'nbd-streaming ser'",
    after: (_, { stdout }) => expect(stdout).toStartWith("serve"),
  },
  {
    document: "packaging/README.md",
    block: "systemctl edit",
    title: "installs the units, and the program where they look for it",
    commands: { systemctl: SYSTEMCTL },
    before: withProgramAndUnits,
    replaced: () => FOLDERS,
    async after(stage) {
      expect(read(stage.file("told"))).toBe("edit\nreload\nenable\n");
      for (const unit of UNITS) {
        expect(read(stage.file("system"), unit)).toBe(read(ROOT, "packaging/systemd", unit));
      }
      expect(read(ROOT, "packaging/systemd", "nbd-streaming.service")).toContain(
        `ExecStart=${FOLDERS[0][0]}nbd-streaming serve`,
      );
      expect(await stage.shell("bin/nbd-streaming")).toBe("the program\n");
    },
  },
  {
    document: "packaging/README.md",
    block: "nbd-streaming@web1",
    title: "installs the templates, whose service streams the disks that the file names",
    needs: ["zstd", "nbdcopy", "nbdinfo"],
    commands: { systemctl: SYSTEMCTL },
    before(stage) {
      withProgramAndUnits(stage);
      mkdirSync(stage.file("state"));
    },
    replaced: () => [
      ["/etc/nbd-streaming", "conf"],
      ["/etc/systemd/system/", "system/"],
    ],
    async after(stage) {
      expect(read(stage.file("told"))).toBe("reload\nenable web1\n");
      for (const unit of TEMPLATES) {
        expect(read(stage.file("system"), unit)).toBe(read(ROOT, "packaging/systemd", unit));
      }
      await serveDisks(stage, read(stage.file("system"), "nbd-streaming@.service"));
    },
  },
];

/** @param client what the line has that is shown @param rest what else is there, or not */
function demo(title: string, client: RegExp, rest: Pick<Scene, "needs" | "only">): Scene {
  return {
    document: "README.md",
    block: "run demo",
    title,
    checkout: true,
    commands: { npx: NPX },
    before: (stage) => cpSync(join(ROOT, "demo"), stage.file("demo"), { recursive: true }),
    after(stage, { stdout, stderr }) {
      expect(stdout).toMatch(client);
      expect(stdout).toEndWith("demo: the digests agree\n");
      expect(stderr).toMatch(/: complete\n$/);
      expect(readdirSync(stage.temporary)).toEqual([]);
    },
    ...rest,
  };
}

/** Starts what the service of an instance starts, with smaller disks, and copies to both of them. */
async function serveDisks(stage: Stage, service: string): Promise<void> {
  const [, line = ""] = /^ExecStart=\/usr\/local\/bin\/((?:.*\\\n)*.*)$/m.exec(service) ?? [];
  expect(line).toEndWith(" $STREAMS");
  const streams = read(stage.file("conf/web1")).replace("10G", "1M").replace("20G", "2M").trim();
  expect(streams).toStartWith("STREAMS=-e vda size=1M ");
  // As systemd does: it splits a variable that is a word, and %% is a percent sign.
  const script = `export STATE_DIRECTORY=state; exec ${line.replaceAll("%%", "%")} -U socket`;
  const words = ["env", streams, "bash", "-c", script];
  const server = stage.start(words);
  await server.saying(/listening on/);
  const uri = (name: string) => `'nbd+unix:///${name}?socket=socket'`;
  expect(await stage.shell(`nbdinfo --list ${uri("")}`)).toContain('export="vdb":');
  await stage.shell(`head -c 1M /dev/zero | nbdcopy - ${uri("vda")}`);
  await stage.shell(`head -c 2M /dev/zero | nbdcopy - ${uri("vdb")}`);
  const { status, stderr } = await server.ended();
  expect(status, stderr).toBe(0);
  for (const [name, size] of Object.entries({ vda: 1, vdb: 2 })) {
    const length = await stage.shell(`zstd -dc state/${name}-[0-9]*.raw.zst | wc -c`);
    expect(Number(length)).toBe(size * 1024 * 1024);
  }
}

/** The one of a release. */
function withBinary(stage: Stage): void {
  mkdirSync(stage.file("bin"));
  writeFileSync(stage.file("nbd-streaming-linux-x64"), "#!/bin/sh\necho the program\n");
}

/** The binary is a script here: how it is built is another block's subject. */
function withProgramAndUnits(stage: Stage): void {
  for (const folder of ["dist", "bin", "system"]) mkdirSync(stage.file(folder));
  writeFileSync(stage.file("dist/nbd-streaming"), "#!/bin/sh\necho the program\n");
  cpSync(join(ROOT, "packaging"), stage.file("packaging"), { recursive: true });
}
