/** How the program is installed, by README, docs/install.md and packaging/README.md. */
import { expect } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../../package.json" with { type: "json" };
import { documentedBlock } from "../documented.ts";
import { ROOT } from "../program.ts";
import type { Scene, Stage } from "./stage.ts";
import { BUNX, NPX, SYSTEMCTL } from "./stand-ins.ts";

const UNITS = ["nbd-streaming.socket", "nbd-streaming.service"];

const read = (...path: string[]) => readFileSync(join(...path), "utf8");

/** Both folders belong to root. */
const FOLDERS = [
  ["/usr/local/bin/", "bin/"],
  ["/etc/systemd/system/", "system/"],
] as const;

export const INSTALLATION: readonly Scene[] = [
  {
    document: "README.md",
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

/** The binary is a script here: how it is built is another block's subject. */
function withProgramAndUnits(stage: Stage): void {
  for (const folder of ["dist", "bin", "system"]) mkdirSync(stage.file(folder));
  writeFileSync(stage.file("dist/nbd-streaming"), "#!/bin/sh\necho the program\n");
  cpSync(join(ROOT, "packaging"), stage.file("packaging"), { recursive: true });
}
