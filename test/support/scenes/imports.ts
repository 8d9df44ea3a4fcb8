/** The recipes in which the program reads. */
import { expect } from "bun:test";
import { existsSync, mkdirSync, truncateSync } from "node:fs";
import { expectImage, SMALL, withRawDisk } from "./masters.ts";
import type { Scene, Stage } from "./stage.ts";
import { AWS, RBD, RESTIC, SSH } from "./stand-ins.ts";

const RECIPE = {
  document: "docs/recipes.md",
  replaced: () => [SMALL],
  after: expectImage,
} as const;

/** The block device of the text, which tests cannot have. */
const DEVICE = ["/dev/vg/disk", "device"] as const;

const ZSTD = { block: "zst' size=10G disk.qcow2", needs: ["zstd"] } as const;
const PIPE = { block: "zstd -dc disk.raw.zst | nbd-streaming", needs: ["zstd"] } as const;
const FROM_DEVICE = { block: "read=/dev/vg/disk", replaced: () => [DEVICE] } as const;

const compressed = (stage: Stage) => stage.shell(`zstd -q '${stage.masters.raw}' -o disk.raw.zst`);

/** A file whose second half is missing. */
async function halfCompressed(stage: Stage): Promise<void> {
  await compressed(stage);
  truncateSync(stage.file("disk.raw.zst"), 3 * 1024 * 1024);
}

/** A web server with the disk. @param path where it is */
function web(path: string, block: string, title: string): Scene {
  let port: number | undefined;
  return {
    document: "docs/recipes.md",
    needs: ["curl"],
    block,
    title,
    env: { no_proxy: "*" },
    before(stage) {
      const disk = () => new Response(Bun.file(stage.masters.raw));
      const server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        routes: { [path]: disk },
        fetch: () => new Response("There is nothing here.", { status: 404 }),
      });
      stage.use({ [Symbol.asyncDispose]: () => server.stop(true) });
      ({ port } = server);
    },
    replaced: () => [SMALL, ["https://example.com", `http://127.0.0.1:${port}`]],
  };
}

export const IMPORTS: readonly Scene[] = [
  {
    ...{ ...RECIPE, ...ZSTD },
    title: "imports what zstd decompresses",
    before: compressed,
  },
  {
    ...{ ...RECIPE, ...ZSTD },
    title: "fails when what zstd decompresses has no end, and leaves no image",
    before: halfCompressed,
    status: 1,
    after: (stage) => expect(existsSync(stage.file("disk.qcow2"))).toBeFalse(),
  },
  {
    ...{ ...RECIPE, ...PIPE },
    title: "imports what comes out of a pipe",
    before: compressed,
  },
  {
    ...{ ...RECIPE, ...PIPE },
    title: "fails when what comes out of a pipe is too short",
    before: halfCompressed,
    status: 1,
    after: (_, { stderr }) => expect(stderr).toMatch(/^nbd-streaming: error: .*truncated/m),
  },
  {
    ...web("/disk.raw", "curl -fsS https", "imports what curl fetches"),
    after: expectImage,
  },
  {
    ...web("/elsewhere", "curl -fsS https", "fails when the web server has no such disk"),
    status: 1,
    after: (_, { stderr }) => expect(stderr).toMatch(/curl: .*404/),
  },
  {
    ...RECIPE,
    block: "ssh host cat",
    title: "imports the disk of another host",
    commands: { ssh: SSH },
    before: (stage) => withRawDisk(stage, "device"),
    replaced: () => [SMALL, DEVICE],
  },
  {
    ...RECIPE,
    block: "aws s3 cp s3:",
    title: "imports an object",
    commands: { aws: AWS },
    before(stage) {
      mkdirSync(stage.file("bucket"));
      withRawDisk(stage, "bucket/disk.raw");
    },
  },
  {
    ...RECIPE,
    block: "rbd export",
    title: "imports an image of a pool",
    commands: { rbd: RBD },
    before(stage) {
      mkdirSync(stage.file("pool"));
      withRawDisk(stage, "pool/disk");
    },
  },
  {
    ...RECIPE,
    block: "restic dump",
    title: "restores the disk from restic",
    commands: { restic: RESTIC },
    before: (stage) => withRawDisk(stage, "snapshot"),
  },
  {
    ...{ ...RECIPE, ...FROM_DEVICE },
    title: "imports a block device and tells its checksum",
    before: (stage) => withRawDisk(stage, "device"),
    async after(stage, { stdout }) {
      expect(stdout).toBe("device: OK\n");
      await expectImage(stage);
    },
  },
  {
    ...{ ...RECIPE, ...FROM_DEVICE },
    title: "tells a checksum that a block device does not have when it was written to",
    // A qemu-img that is followed by somebody who writes to the device.
    commands: {
      "qemu-img": `"${Bun.which("qemu-img")}" "$@" && printf x >> device\n`,
    },
    before: (stage) => withRawDisk(stage, "device"),
    status: 1,
    after: (_, { stdout }) => expect(stdout).toBe("device: FAILED\n"),
  },
];
