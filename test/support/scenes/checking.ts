/** What docs/check.md has. */
import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { withImage } from "./masters.ts";
import type { Scene } from "./stage.ts";

const CHECK = "docs/check.md";

export const CHECKING: readonly Scene[] = [
  {
    document: CHECK,
    block: "nbd-streaming check\n",
    title: "checks the machine",
    after: (_, { stdout }) => expect(stdout).toEndWith("\nall is well\n"),
  },
  {
    document: CHECK,
    block: "check pipe=disk.fifo",
    title: "checks a pipe that somebody is to make, and makes none",
    after(stage, { stdout }) {
      expect(stdout).toContain("size=");
      expect(stdout).toContain("window=");
      expect(readdirSync(stage.cwd)).toEqual([]);
    },
  },
  {
    document: CHECK,
    block: "check -- qemu-img convert -n disk",
    title: "checks a client that is in order, and one that needs a disk",
    before: withImage,
    after(_, { stdout }) {
      const lines = stdout.match(/^nbd-streaming run .*$/gm);
      expect(lines).toEqual([
        "nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'",
        "nbd-streaming run pipe=disk.fifo spool=. --hold -- qemu-img convert disk.qcow2 -O qcow2 '$nbd'",
      ]);
    },
  },
];
