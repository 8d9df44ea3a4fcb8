/** `examples/vm-backup` with machines that have unusual disks, are in another state, or share a folder. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { binFolder } from "../support/documented.ts";
import { LIMIT } from "../support/limit.ts";
import { Machine, MACHINE_MISSING } from "../support/machine.ts";
import { command, eventually, ROOT, type Running, start } from "../support/program.ts";
import { QmpProxy } from "../support/qmp-proxy.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const MISSING = [...MACHINE_MISSING, ...["python3"].filter((tool) => Bun.which(tool) === null)];
const why = MISSING.length > 0 ? ` (needs ${MISSING.join(", ")})` : "";
const STORE = 'cat > "$NBD_STREAMING_EXPORT.raw"';
const STORE_LATER = `: > begun; until [ -e go ]; do sleep 0.02; done; ${STORE}`;
const UUIDS = [
  "11111111-1111-4111-8111-111111111111",
  "22222222-2222-4222-8222-222222222222",
] as const;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());
const scratch = folder.file("scratch");
let env: Record<string, string>;
if (why === "") {
  beforeAll(() => {
    for (const path of [scratch, folder.file("tmp")]) mkdirSync(path);
    binFolder(folder.file("bin"));
    env = { PATH: `${folder.file("bin")}:${process.env.PATH}`, TMPDIR: folder.file("tmp") };
  });
}

let folders = 0;
/** A folder of its own for a machine. */
function fresh(): string {
  const path = folder.file(`machine-${folders++}`);
  mkdirSync(path);
  return path;
}

function backup(cwd: string, words: readonly string[], monitor = "qmp.sock"): Running {
  const program = join(ROOT, "examples/vm-backup");
  const line = ["python3", program, "--scratch", scratch, monitor, ...words, "-q"];
  return start(line, { cwd, env, group: true });
}

async function expectNothingLeft({ qmp }: Machine): Promise<void> {
  const nodes = await qmp.execute<{ "node-name": string }[]>("query-named-block-nodes");
  expect(nodes.filter((node) => node["node-name"].startsWith("vm-backup"))).toEqual([]);
  for (const query of ["query-jobs", "query-block-exports"]) {
    expect(await qmp.execute(query)).toEqual([]);
  }
  const stop = qmp.execute("nbd-server-stop").catch(String);
  expect(await stop).toContain("NBD server not running");
}

/** Disks, each with a file of its name, and QEMU's words for it. */
const KINDS: Record<string, { image: string; words: (name: string) => string[] }> = {
  "backing-chain": {
    image: "qemu-img create -q -f qcow2 -b below.qcow2 -F qcow2 backing-chain",
    words: (name) => device(name, `driver=qcow2,node-name=${name},${file(name)}`),
  },
  "with.an_iothread": {
    image: "qemu-img create -q -f qcow2 with.an_iothread 1M",
    words: (name) =>
      device(name, `driver=qcow2,node-name=${name},${file(name)}`, ",iothread=thread"),
  },
  throttled: {
    image: "qemu-img create -q -f qcow2 throttled 1M",
    words: (name) =>
      device(
        name,
        `driver=throttle,node-name=${name},throttle-group=slow,file.driver=qcow2,file.${file(name).replace(",", ",file.")}`,
      ),
  },
  bitmap: {
    image: "qemu-img create -q -f qcow2 bitmap 1M && qemu-img bitmap --add bitmap since-0",
    words: (name) => device(name, `driver=qcow2,node-name=${name},${file(name)}`),
  },
  odd: {
    image: "truncate -s 1000 odd",
    words: (name) => device(name, `driver=raw,node-name=${name},${file(name)}`),
  },
  empty: {
    image: "truncate -s 0 empty",
    words: (name) => device(name, `driver=raw,node-name=${name},${file(name)}`),
  },
  drive: {
    image: "qemu-img create -q -f qcow2 drive 1M",
    words: (name) => [
      ...["-drive", `if=none,id=${name},format=qcow2,file=${name}`],
      ...["-device", `virtio-blk-pci,drive=${name}`],
    ],
  },
  "with-two-devices": {
    image: "qemu-img create -q -f qcow2 with-two-devices 1M",
    words: (name) => [
      ...device(name, `driver=qcow2,node-name=${name},${file(name)}`, ",share-rw=on"),
      ...["-device", `virtio-blk-pci,drive=${name},share-rw=on`],
    ],
  },
};

const file = (name: string) => `file.driver=file,file.filename=${name}`;

function device(name: string, node: string, more = ""): string[] {
  return ["-blockdev", node, "-device", `virtio-blk-pci,drive=${name}${more}`];
}

describe.skipIf(why !== "")(`vm-backup${why}`, () => {
  test("backs up disks of all kinds", async () => {
    const here = fresh();
    await Bun.$`qemu-img create -q -f qcow2 below.qcow2 2M && qemu-io -c ${"write -P 7 0 1M"} below.qcow2`
      .cwd(here)
      .quiet();
    const then: Record<string, Buffer> = {};
    for (const [name, { image }] of Object.entries(KINDS)) {
      await command(["sh", "-c", `${image} && qemu-img convert -O raw ${name} then`], {
        cwd: here,
      });
      then[name] = readFileSync(join(here, "then"));
    }
    const words = Object.entries(KINDS).flatMap(([name, kind]) => kind.words(name));
    await using machine = await Machine.start(
      here,
      [],
      [
        ...["-object", "iothread,id=thread"],
        ...["-object", "throttle-group,id=slow,x-iops-total=10000"],
        ...words,
      ],
    );
    await using running = backup(here, [STORE]);
    expect(await running.ended()).toEqual({ status: 0, stderr: "", stdout: "" });
    const stored = readdirSync(here).filter((name) => name.endsWith(".raw"));
    expect(stored.toSorted()).toEqual(
      Object.keys(KINDS)
        .map((name) => `${name}.raw`)
        .toSorted(),
    );
    for (const [name, bytes] of Object.entries(then)) {
      expect(readFileSync(join(here, `${name}.raw`)).equals(bytes), name).toBeTrue();
    }
    await expectNothingLeft(machine);
  });

  test("refuses a machine that is about to come, or has gone, to another QEMU", async () => {
    const here = fresh();
    await Machine.makeDisks(here, { vda: MiB });
    async function expectRefused(machine: Machine, state: string): Promise<void> {
      await using running = backup(here, [STORE]);
      const { status, stderr } = await running.ended();
      expect(stderr).toBe(
        `vm-backup: qmp.sock: ${state}: another QEMU has the disks, so back up that one\n`,
      );
      expect(status).toBe(1);
      expect(readdirSync(scratch)).toEqual([]);
      await expectNothingLeft(machine);
    }
    {
      await using source = await Machine.start(here, ["vda"]);
      await source.qmp.execute("migrate", { uri: "exec:cat > moved" });
      const state = async () =>
        (await source.qmp.execute<{ status: string }>("query-status")).status;
      const deadline = performance.now() + LIMIT / 2;
      while ((await state()) !== "postmigrate" && performance.now() < deadline) await Bun.sleep(20);
      await expectRefused(source, "postmigrate");
    }
    await using destination = await Machine.start(here, ["vda"], ["-incoming", "defer"]);
    await expectRefused(destination, "inmigrate");
  });

  describe("two machines whose monitors have one path, as in containers, share a folder", () => {
    /** Backs up the second while the first one's backup is under way. */
    async function both(uuids: readonly [string, string]) {
      const path = folder.file(`shared-${folders}.sock`);
      const [first, second] = [fresh(), fresh()];
      await using stack = new AsyncDisposableStack();
      const machines: Machine[] = [];
      for (const [index, here] of [first, second].entries()) {
        await Machine.makeDisks(here, { vda: (index + 1) * MiB });
        const words = ["-uuid", uuids[index] as string];
        machines.push(stack.use(await Machine.start(here, ["vda"], words)));
        expect((await machines[index]?.write("vda", 0, MiB, index + 1))?.failed).toBeFalse();
      }
      // Moved, not ended: the first backup keeps its connection.
      stack.use(await QmpProxy.listen(`${path}.1`, join(first, "qmp.sock")));
      await command(["mv", `${path}.1`, path]);
      const running = stack.use(backup(first, [STORE_LATER], path));
      await eventually(() => existsSync(join(first, "begun")), "the first backup to begin");
      stack.use(await QmpProxy.listen(`${path}.2`, join(second, "qmp.sock")));
      await command(["mv", `${path}.2`, path]);
      const two = await stack.use(backup(second, [STORE], path)).ended();
      await expectNothingLeft(machines[1] as Machine);
      writeFileSync(join(first, "go"), "");
      const one = await running.ended();
      await expectNothingLeft(machines[0] as Machine);
      expect(readdirSync(scratch)).toEqual([]);
      expect(one).toEqual({ status: 0, stderr: "", stdout: "" });
      expect(readFileSync(join(first, "vda.raw")).equals(Buffer.alloc(MiB, 1))).toBeTrue();
      return { ...two, path, second };
    }

    test("and are backed up at the same time if each has its UUID", async () => {
      const { status, stderr, second } = await both(UUIDS);
      expect(stderr).toBe("");
      expect(status).toBe(0);
      const expected = Buffer.concat([Buffer.alloc(MiB, 2), Buffer.alloc(MiB)]);
      expect(readFileSync(join(second, "vda.raw")).equals(expected)).toBeTrue();
    });

    test("and are refused to disturb each other if not", async () => {
      const { status, stderr, path, second } = await both([UUIDS[0], UUIDS[0]]);
      expect(stderr).toMatch(/^vm-backup: [^ ]*: another machine uses [^ ]*\n$/);
      expect(stderr).toContain(path);
      expect(status).toBe(1);
      expect(existsSync(join(second, "vda.raw"))).toBeFalse();
    });
  });
});
