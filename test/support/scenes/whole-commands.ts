/** The recipes for images that qemu-img does not open without extra options. */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { encrypting } from "../images.ts";
import { expectCompressed, withImage } from "./masters.ts";
import type { Scene, Stage } from "./stage.ts";

const RECIPE = { document: "docs/recipes.md", needs: ["zstd"] } as const;

const LUKS = { ...RECIPE, block: "encrypt.key-secret" } as const;

/** Puts the encrypted image there, and the passphrase. */
async function withEncryptedImage(stage: Stage): Promise<void> {
  writeFileSync(stage.file("passphrase"), "secret");
  await stage.shell(encrypting(stage.masters.raw, "disk.qcow2", "file=passphrase"));
}

export const WHOLE_COMMANDS: readonly Scene[] = [
  {
    ...RECIPE,
    block: "-l before-upgrade",
    title: "compresses the disk as it was at a snapshot",
    needs: ["zstd", "qemu-io"],
    async before(stage) {
      withImage(stage);
      await stage.shell(
        "qemu-img snapshot -c before-upgrade disk.qcow2 && qemu-io -c 'write -P 9 1M 2M' disk.qcow2",
      );
    },
    after: expectCompressed,
  },
  {
    ...LUKS,
    title: "compresses the disk of an encrypted image",
    before: withEncryptedImage,
    after: expectCompressed,
  },
  {
    ...LUKS,
    title: "fails with another passphrase",
    async before(stage) {
      await withEncryptedImage(stage);
      writeFileSync(stage.file("passphrase"), "guess");
    },
    status: 1,
    after: (_, { stderr }) => expect(stderr).toMatch(/Invalid password/),
  },
];
