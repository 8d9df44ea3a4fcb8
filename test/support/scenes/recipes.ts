/** The recipes in which the program writes to a named pipe, a command, a host or a service. */
import { expect } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import {
  expectCompressed,
  expectFile,
  expectImage,
  expectPrinted,
  SIZE,
  SMALL,
  wholeFile,
  withBrokenImage,
  withImage,
} from "./masters.ts";
import type { Scene, Stage } from "./stage.ts";
import { AWS, GCLOUD, RBD, RCLONE, RESTIC, SSH } from "./stand-ins.ts";

const RECIPE = { document: "docs/recipes.md", before: withImage } as const;
/** The same when the image cannot be read to its end. */
const BROKEN = { document: "docs/recipes.md", before: withBrokenImage, status: 1 } as const;

/** The block device of the text, which tests cannot have. */
const DEVICE = ["/dev/vg/disk", "device"] as const;

const FIFO = { block: "mkfifo disk.fifo", needs: ["zstd"] } as const;
const ZSTD = { block: "-o disk.raw.zst' disk.qcow2\n", needs: ["zstd"] } as const;
const DD = {
  block: "ssh host dd",
  commands: { ssh: SSH },
  replaced: () => [DEVICE],
} as const;
const FORWARD = {
  block: "ExitOnForwardFailure",
  needs: ["zstd"],
  commands: { ssh: SSH },
  replaced: () => [SMALL],
} as const;
const TO_S3 = { block: "aws s3 cp - s3://bucket/disk.raw", commands: { aws: AWS } } as const;
const TO_RCLONE = {
  block: "rclone rcat",
  // The real one with a folder as its remote, where it is installed.
  commands: Bun.which("rclone") === null ? { rclone: RCLONE } : {},
  env: { RCLONE_CONFIG_REMOTE_TYPE: "alias", RCLONE_CONFIG_REMOTE_REMOTE: "." },
} as const;
const TO_GCLOUD = { block: "gcloud storage cp -", commands: { gcloud: GCLOUD } } as const;
const TO_CEPH = { block: "rbd import", commands: { rbd: RBD } } as const;
const TO_RESTIC = { block: "restic backup", commands: { restic: RESTIC } } as const;
const BORG = { needs: ["borg"], env: { BORG_REPO: "repository" } } as const;
const TO_BORG = { ...BORG, block: "borg create" } as const;
const CHECKSUM = { block: "| sha256sum -c disk", needs: ["zstd"] } as const;

const OBJECT = "bucket/disk.raw";
const expectObject = (stage: Stage) => expectFile(stage, OBJECT);
const expectNoObject = (stage: Stage) => expect(existsSync(stage.file(OBJECT))).toBeFalse();

export const RECIPES: readonly Scene[] = [
  {
    ...{ ...RECIPE, ...FIFO },
    title: "compresses the disk that comes out of a FIFO",
    after: expectCompressed,
  },
  {
    ...{ ...BROKEN, ...FIFO },
    title: "leaves a good file with a part of the disk behind a FIFO, and fails",
    async after(stage) {
      await wholeFile(stage);
      const length = Number(await stage.shell("zstd -dc disk.raw.zst | wc -c"));
      expect(length).toBeGreaterThan(0);
      expect(length).toBeLessThan(SIZE);
    },
  },
  {
    ...{ ...RECIPE, ...ZSTD },
    title: "compresses the disk by a command",
    after: expectCompressed,
  },
  {
    ...{ ...BROKEN, ...ZSTD },
    title: "leaves a file that zstd rejects when the image cannot be read",
    after: (stage) => stage.shell("! zstd -t disk.raw.zst"),
  },
  {
    ...{ ...RECIPE, ...DD },
    title: "writes the disk to another host by dd",
    after: (stage) => expectFile(stage, "device"),
  },
  {
    ...{ ...BROKEN, ...DD },
    title: "fails when the image cannot be read, though dd on the other host does not",
    after: (_, { stderr }) => expect(stderr).toMatch(/truncated: the command failed/),
  },
  {
    ...{ ...RECIPE, ...FORWARD },
    title: "gets the disk of an image on another host",
    after: expectCompressed,
  },
  {
    ...{ ...BROKEN, ...FORWARD },
    title: "fails when the image on another host cannot be read",
    after: (stage) => stage.shell("! zstd -t disk.raw.zst"),
  },
  { ...{ ...RECIPE, ...TO_S3 }, title: "uploads the disk with its size", after: expectObject },
  {
    ...{ ...BROKEN, ...TO_S3 },
    title: "makes no object when the image cannot be read",
    after: expectNoObject,
  },
  { ...{ ...RECIPE, ...TO_RCLONE }, title: "uploads the disk by rclone", after: expectObject },
  {
    ...{ ...BROKEN, ...TO_RCLONE },
    title: "fails with rclone when the image cannot be read",
    after: (_, { stderr }) => expect(stderr).toMatch(/truncated: the command failed/),
  },
  { ...{ ...RECIPE, ...TO_GCLOUD }, title: "uploads the disk by gcloud", after: expectObject },
  {
    ...{ ...BROKEN, ...TO_GCLOUD },
    title: "makes no object by gcloud when the image cannot be read",
    after: expectNoObject,
  },
  {
    ...{ ...RECIPE, ...TO_CEPH },
    title: "imports the disk into a pool",
    after: (stage) => expectFile(stage, "pool/disk"),
  },
  {
    ...{ ...BROKEN, ...TO_CEPH },
    title: "leaves a part of an image in the pool when the disk cannot be read",
    after: (stage) => expect(statSync(stage.file("pool/disk")).size).toBeLessThan(SIZE),
  },
  {
    ...{ ...RECIPE, ...TO_RESTIC },
    title: "is started by restic",
    after: (stage) => expectFile(stage, "snapshot"),
  },
  {
    ...{ ...BROKEN, ...TO_RESTIC },
    title: "lets restic fail when the image cannot be read",
    after: (stage) => expect(existsSync(stage.file("snapshot"))).toBeFalse(),
  },
  {
    ...{ ...RECIPE, ...TO_BORG },
    title: "is started by borg",
    async before(stage) {
      withImage(stage);
      await stage.shell("borg init -e none");
    },
    async after(stage) {
      const archive = (await stage.shell("borg list --short")).trim();
      expect(archive).toMatch(/^disk-\d{4}-/);
      await expectPrinted(stage, `borg extract --stdout ::${archive}`);
    },
  },
  {
    ...{ ...BROKEN, ...TO_BORG },
    title: "lets borg fail without an archive when the image cannot be read",
    async before(stage) {
      withBrokenImage(stage);
      await stage.shell("borg init -e none");
    },
    status: 2,
    after: async (stage) => expect(await stage.shell("borg list --short")).toBe(""),
  },
  {
    document: "docs/recipes.md",
    ...BORG,
    block: "borg extract",
    title: "restores the disk from borg",
    async before(stage) {
      await stage.shell("borg init -e none");
      const create = "borg create --content-from-command --stdin-name disk.raw ::disk";
      await stage.shell(`${create} -- cat '${stage.masters.raw}'`);
    },
    replaced: () => [SMALL],
    after: expectImage,
  },
  {
    ...{ ...RECIPE, ...CHECKSUM },
    title: "tells the checksum of the disk to sha256sum",
    async after(stage, { stdout }) {
      expect(stdout).toBe("-: OK\n");
      expect(readFileSync(stage.file("disk.sha256"), "utf8")).toStartWith(stage.masters.sha256);
    },
  },
  {
    ...{ ...BROKEN, ...CHECKSUM },
    title: "tells no checksum of a truncated stream",
    after: (stage) => expect(existsSync(stage.file("disk.sha256"))).toBeFalse(),
  },
];
