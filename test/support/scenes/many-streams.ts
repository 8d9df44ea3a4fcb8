/** What docs/many-streams.md has. */
import { expect } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { digestFile } from "../reader.ts";
import { documentedBlock } from "../documented.ts";
import type { Running } from "../program.ts";
import { expectFile, withRawDisk } from "./masters.ts";
import type { Scene, Stage } from "./stage.ts";

const PAGE = {
  document: "docs/many-streams.md",
  needs: ["zstd", "qemu-img", "nbdcopy", "nbdinfo"],
};
const FIRST = { ...PAGE, block: "qemu-img create" } as const;
const SERVER = { ...PAGE, block: "nbd-streaming serve" } as const;
const CLIENTS = { ...PAGE, block: "nbdinfo --list" } as const;

/** The disks of the two machines' images, and what a stream reads. */
async function withDisks(stage: Stage): Promise<void> {
  withRawDisk(stage, "base.raw");
  await stage.shell(
    "for disk in vda:64M vdb:32M; do qemu-img create -q -f qcow2 ${disk%:*}.qcow2 ${disk#*:}; done\n" +
      "qemu-img convert -n -O qcow2 base.raw vda.qcow2 && qemu-img convert -n -O qcow2 base.raw vdb.qcow2",
  );
}

/** Expects all three streams of the server to have arrived. */
async function expectAll(stage: Stage, { status, stderr }: { status: number; stderr: string }) {
  expect(status, stderr).toBe(0);
  expect(stderr).toEndWith("nbd-streaming: 3 of 3 streams complete\n");
  await stage.shell("qemu-img convert -O raw vda.qcow2 vda && zstd -dc vda.raw.zst | cmp - vda");
  await stage.shell("qemu-img convert -O raw vdb.qcow2 vdb && cmp vdb.raw vdb");
  expect(readFileSync(stage.file("vdb.sha256"), "utf8")).toStartWith(
    await digestFile(stage.file("vdb")),
  );
  await expectFile(stage, "copy.raw");
}

export const MANY_STREAMS: readonly Scene[] = [
  {
    ...FIRST,
    title: "streams two disks, in an empty folder",
    async after(stage, { stderr }) {
      expect(stderr).toContain("nbd-streaming: 2 of 2 streams complete\n");
      expect(
        await stage.shell("for disk in vda vdb; do zstd -dc $disk.raw.zst | wc -c; done"),
      ).toBe(`${64 * 1024 * 1024}\n${32 * 1024 * 1024}\n`);
    },
  },
  {
    ...FIRST,
    title: "fails if the sink of one of them does, and has all of the other",
    commands: { zstd: 'cat > "$3"; [ "$3" != vdb.raw.zst ] || exit 3\n' },
    status: 4,
    after(stage, { stderr }) {
      expect(stderr).toMatch(/ vda: .*: complete\n/);
      expect(stderr).toMatch(/error: vdb: .*: truncated: exec:zstd .* failed with status 3/);
      expect(stderr).toEndWith("1 of 2 streams complete\n");
      expect(statSync(stage.file("vda.raw.zst")).size).toBe(64 * 1024 * 1024);
    },
  },
  {
    ...SERVER,
    title: "serves three streams until each has had its client",
    before: withDisks,
    async during(stage, server) {
      await server.saying(/listening on/);
      await stage.shell(documentedBlock(CLIENTS.document, CLIENTS.block).text);
    },
    after: expectAll,
  },
  clients(),
];

/** The clients of the other block's server. */
function clients(): Scene {
  let server: Running;
  return {
    ...CLIENTS,
    title: "lists the streams, and copies each to or from its export",
    async before(stage) {
      await withDisks(stage);
      const { text } = documentedBlock(SERVER.document, SERVER.block);
      server = stage.start(["bash", "-e", "-c", text]);
      await server.saying(/listening on/);
    },
    async after(stage, { stdout }) {
      for (const name of ["vda", "vdb", "base"]) expect(stdout).toContain(`export="${name}":`);
      await expectAll(stage, await server.ended());
    },
  };
}
