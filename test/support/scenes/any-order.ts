/** What clients need that do not write from start to end: docs/any-order.md, and recipes that use it. */
import { expect } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { digestDisk } from "../copied.ts";
import { documentedBlock } from "../documented.ts";
import {
  expectCompressed,
  SIZE,
  SMALL,
  withBrokenImage,
  withImage,
  withRawDisk,
} from "./masters.ts";
import type { Running } from "../program.ts";
import type { Scene, Stage } from "./stage.ts";
import { AWS_SIZED, SSH } from "./stand-ins.ts";

const PAGE = "docs/any-order.md";
const RECIPES = "docs/recipes.md";

const QCOW2 = { block: "-O qcow2 -c disk.vmdk", commands: { ssh: SSH } } as const;
const TO_S3 = {
  document: RECIPES,
  block: "bucket/disk.qcow2",
  commands: { aws: AWS_SIZED },
} as const;
const PARALLEL = { block: "-W -m 16", needs: ["zstd"], replaced: () => [SMALL] } as const;
const CONNECTIONS = {
  block: "--connections=4",
  needs: ["zstd", "nbdcopy"],
  replaced: () => [SMALL],
} as const;
const SERVER = { document: PAGE, block: "serve --hold" } as const;
const LINKED = { document: RECIPES, block: 'ln -s "$spool"', needs: ["zstd"] } as const;
const MKFS = {
  document: RECIPES,
  block: "mkfs.ext4",
  needs: ["zstd", "mkfs.ext4", "e2fsck"],
  before: (stage: Stage) => stage.shell("mkdir folder && echo hello > folder/file"),
} as const;

/** Puts a VMDK there. @param broken it cannot be read to its end */
async function withVmdk(stage: Stage, broken = false): Promise<void> {
  const convert = "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized";
  await stage.shell(`${convert} '${stage.masters.raw}' disk.vmdk`);
  // Compressed grains that are none: reading them fails.
  if (broken) await stage.shell("dd if=/dev/zero of=disk.vmdk bs=1M seek=4 count=1 conv=notrunc");
}

/** Expects a qcow2 that has the disk, in a file that ends where the image does. */
async function expectQcow2(stage: Stage, name: string): Promise<void> {
  expect(await digestDisk(stage.file(name), "qcow2")).toBe(stage.masters.sha256);
  expect(await stage.shell(`qemu-img check ${name}`)).toStartWith("No errors were found");
  expect(Bun.file(stage.file(name)).size).toBeLessThan(2 * SIZE);
}

/** A qcow2 that is made on another host, in each document that has it. */
function qcow2(document: string): Scene[] {
  const scene = { ...QCOW2, document };
  return [
    {
      ...scene,
      title: "makes a qcow2 on another host",
      before: (stage) => withVmdk(stage),
      after: (stage) => expectQcow2(stage, "disk.qcow2"),
    },
    {
      ...scene,
      title: "does not even start ssh when the VMDK cannot be read",
      before: (stage) => withVmdk(stage, true),
      status: 1,
      after: (stage) => expect(existsSync(stage.file("disk.qcow2"))).toBeFalse(),
    },
  ];
}

/** Expects an image that has the disk. @param compressed it is in what zstd has made */
async function expectImage(stage: Stage, format: string, name: string, compressed: boolean) {
  if (compressed) await stage.shell(`zstd -q -d ${name}.zst`);
  expect(await digestDisk(stage.file(name), format)).toBe(stage.masters.sha256);
}

/** Images of other formats that qemu-img makes in a file. */
function images(): Scene[] {
  return [
    { document: PAGE, block: "-O vhdx", format: "vhdx", name: "disk.vhdx", compressed: true },
    { document: RECIPES, block: "-O vhdx", format: "vhdx", name: "disk.vhdx" },
    { document: RECIPES, block: "-O vdi", format: "vdi", name: "disk.vdi", compressed: true },
    {
      document: RECIPES,
      block: "-O vpc -o force_size",
      format: "vpc",
      name: "disk.vhd",
      compressed: true,
    },
    { document: RECIPES, block: "subformat=streamOptimized", format: "vmdk", name: "disk.vmdk" },
  ].map(({ document, block, format, name, compressed = false }) => ({
    document,
    block,
    ...(compressed ? { needs: ["zstd"] } : { commands: { ssh: SSH } }),
    title: `makes a ${format} in a file`,
    before: withImage,
    after: (stage) => expectImage(stage, format, name, compressed),
  }));
}

/** A client in any order, and one with several connections, in each document that has them. */
function copies(document: string): Scene[] {
  return [
    {
      ...PARALLEL,
      document,
      title: "compresses the disk that comes out of order",
      before: withImage,
      after: expectCompressed,
    },
    {
      ...PARALLEL,
      document,
      title: "leaves no file that passes for the disk when the image cannot be read in any order",
      before: withBrokenImage,
      status: 1,
      after: (stage) => stage.shell("! zstd -t disk.raw.zst"),
    },
    {
      ...CONNECTIONS,
      document,
      title: "compresses the disk that comes by several connections",
      before: (stage) => withRawDisk(stage),
      after: expectCompressed,
    },
  ];
}

/** The server of the page. */
function served(): Scene {
  let client: Running;
  return {
    ...SERVER,
    title: "serves a client that makes a qcow2",
    before: withImage,
    replaced: () => [["cat > disk.qcow2", "cat > made.qcow2"]],
    async during(stage, server) {
      await server.saying(/listening on/);
      const { text } = documentedBlock(SERVER.document, SERVER.block);
      expect(text).toEndWith(" -U nbd.sock\n");
      client = stage.start([
        ..."qemu-img convert -O qcow2 disk.qcow2 nbd+unix:///?socket=nbd.sock".split(" "),
      ]);
      expect((await client.ended()).status).toBe(0);
    },
    after: (stage) => expectQcow2(stage, "made.qcow2"),
  };
}

export const ANY_ORDER: readonly Scene[] = [
  ...["README.md", PAGE, RECIPES].flatMap(qcow2),
  ...[PAGE, RECIPES].flatMap(copies),
  served(),
  {
    ...TO_S3,
    title: "uploads a qcow2 with its exact size",
    before: (stage) => withVmdk(stage),
    after: (stage) => expectQcow2(stage, "bucket/disk.qcow2"),
  },
  {
    ...TO_S3,
    title: "makes no object when the VMDK cannot be read",
    before: (stage) => withVmdk(stage, true),
    status: 1,
    after: (stage) => expect(existsSync(stage.file("bucket"))).toBeFalse(),
  },
  ...images(),
  {
    ...LINKED,
    title: "makes a VMDK that knows its name",
    before: withImage,
    async after(stage) {
      expect(existsSync(stage.file("disk.vmdk"))).toBeFalse();
      await expectImage(stage, "vmdk", "disk.vmdk", true);
      await stage.shell(`grep -a '^RW .* SPARSE "disk.vmdk"$' disk.vmdk`);
    },
  },
  {
    ...LINKED,
    title: "leaves a VMDK alone that is there",
    before(stage) {
      withImage(stage);
      writeFileSync(stage.file("disk.vmdk"), "precious");
    },
    status: 1,
    after(stage) {
      expect(readFileSync(stage.file("disk.vmdk"), "utf8")).toBe("precious");
      expect(existsSync(stage.file("disk.vmdk.zst"))).toBeFalse();
    },
  },
  {
    ...MKFS,
    title: "makes a file system with files in it",
    async after(stage) {
      await stage.shell("zstd -q -dc disk.raw.zst > made.raw && e2fsck -fn made.raw");
      await stage.shell("debugfs -R 'cat /file' made.raw | grep -x hello");
    },
  },
  {
    ...MKFS,
    title: "streams nothing when mkfs fails",
    before: (stage) => writeFileSync(stage.file("folder"), "no folder"),
    status: 1,
    after: (stage) => expect(existsSync(stage.file("disk.raw.zst"))).toBeFalse(),
  },
];
