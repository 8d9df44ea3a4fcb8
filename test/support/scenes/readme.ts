/** README's example and its recipes, which docs/recipes.md has, too. */
import { IMPORTS } from "./imports.ts";
import { expectCompressed, withBrokenImage, withImage } from "./masters.ts";
import { RECIPES } from "./recipes.ts";
import type { Scene } from "./stage.ts";

const DOCUMENT = "README.md";

const EXAMPLE = { document: DOCUMENT, block: "-- qemu-img convert", needs: ["zstd"] } as const;

/** What the blocks of the recipes contain, in both documents. */
const RECIPE_BLOCKS = [
  "-o disk.raw.zst' disk.qcow2\n",
  "ssh host dd",
  "restic backup",
  "zst' size=10G disk.qcow2",
];

export const README: readonly Scene[] = [
  {
    ...EXAMPLE,
    title: "compresses the disk that a client writes",
    before: withImage,
    after: expectCompressed,
  },
  {
    ...EXAMPLE,
    title: "leaves no file that passes for the disk when the client fails",
    before: withBrokenImage,
    status: 1,
    after: (stage) => stage.shell("! zstd -t disk.raw.zst"),
  },
  ...[...RECIPES, ...IMPORTS]
    .filter(({ block }) => RECIPE_BLOCKS.includes(block))
    .map((scene) => ({ ...scene, document: DOCUMENT })),
];
