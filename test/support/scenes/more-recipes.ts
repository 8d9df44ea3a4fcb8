/** The recipes that need more than one program, or another format. */
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import {
  expectCompressed,
  expectImage,
  SIZE,
  SMALL,
  withBrokenImage,
  withImage,
} from "./masters.ts";
import type { Scene, Stage } from "./stage.ts";

const PAGE = "docs/recipes.md";

const WHOLE = { document: PAGE, block: ".part && mv", needs: ["zstd"] } as const;
const BASH = {
  document: PAGE,
  block: "-o pipefail",
  needs: ["zstd"],
  replaced: () => [["4G", "4M"]],
} as const satisfies Partial<Scene>;
const OVA = { document: PAGE, block: "tar -xO" } as const;
const IN_PLACE = { document: PAGE, block: "tar -tvR", needs: ["zstd"] } as const;
const COMPARE = {
  document: PAGE,
  block: "qemu-img compare",
  needs: ["zstd"],
  replaced: () => [SMALL],
} as const satisfies Partial<Scene>;

/** An OVA with the disk as a VMDK behind another file; VMware's form has its tables at the end. */
async function withOva(stage: Stage, form: "qemu" | "VMware"): Promise<void> {
  const convert = "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized";
  await stage.shell(`${convert} '${stage.masters.raw}' disk.vmdk`);
  if (form === "VMware") {
    const bytes = readFileSync(stage.file("disk.vmdk"));
    const header = bytes.subarray(0, 512);
    const footer = Buffer.alloc(3 * 512);
    // "Virtual Disk Format 5.0": a marker of one sector and of type 3, the header again, and the end.
    footer.writeUInt32LE(1, 0);
    footer.writeUInt32LE(3, 12);
    header.copy(footer, 512);
    // gdOffset: GD_AT_END
    header.fill(0xff, 56, 64);
    const rest = Buffer.alloc(-bytes.length & 511);
    await Bun.write(stage.file("disk.vmdk"), Buffer.concat([bytes, rest, footer]));
  }
  await stage.shell(
    "echo '<Envelope/>' > disk.ovf && tar -cf disk.ova disk.ovf disk.vmdk && rm disk.vmdk",
  );
}

/** A backup of the disk, or of another one. */
async function withBackup(stage: Stage, change = "true"): Promise<void> {
  withImage(stage);
  await stage.shell(
    `cp '${stage.masters.raw}' backup && ${change} && zstd -q backup -o disk.raw.zst`,
  );
}

/** A server that takes one PUT. @param status what it answers */
function put(title: string, { status = 200, broken = false } = {}): Scene {
  let port: number | undefined;
  const puts: { length: number | undefined; bytes: string | undefined }[] = [];
  return {
    document: PAGE,
    needs: ["curl"],
    block: "curl -fsS -T -",
    title,
    env: { no_proxy: "*" },
    before(stage) {
      (broken ? withBrokenImage : withImage)(stage);
      const server = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        data: undefined,
        socket: receiver(puts, status),
      });
      stage.use({ [Symbol.asyncDispose]: () => Promise.resolve(server.stop(true)) });
      ({ port } = server);
    },
    replaced: () => [["https://example.com", `http://127.0.0.1:${port}`]],
    status: status === 200 && !broken ? 0 : 1,
    after({ masters }) {
      const [one, ...others] = puts;
      expect(others).toEqual([]);
      expect(one?.length).toBe(SIZE);
      const whole = status === 200 && !broken;
      expect(one?.bytes).toBe(whole ? masters.sha256 : undefined);
    },
  };
}

/** Takes a request apart as far as tests need, and digests a body that is there whole. */
function receiver(
  puts: { length: number | undefined; bytes: string | undefined }[],
  status: number,
): Bun.SocketHandler<undefined> {
  let head = "";
  let left = 0;
  const hash = new Bun.CryptoHasher("sha256");
  return {
    data(socket, chunk) {
      let body: Uint8Array = chunk;
      if (puts.length === 0) {
        head += Buffer.from(chunk).toString("latin1");
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        const length = /^content-length: (\d+)\r$/im.exec(head.slice(0, end + 1))?.[1];
        const chunked = /^transfer-encoding:/im.test(head.slice(0, end));
        puts.push({ length: chunked ? undefined : Number(length), bytes: undefined });
        left = Number(length);
        if (status !== 200) {
          socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
          return;
        }
        socket.write("HTTP/1.1 100 Continue\r\n\r\n");
        body = Buffer.from(head.slice(end + 4), "latin1");
      }
      hash.update(body);
      left -= body.length;
      if (left > 0 || status !== 200) return;
      (puts[0] as { bytes: string | undefined }).bytes = hash.digest("hex");
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    },
  };
}

export const MORE_RECIPES: readonly Scene[] = [
  {
    ...WHOLE,
    title: "names the file when it is whole",
    before: withImage,
    async after(stage) {
      await expectCompressed(stage);
      expect(readdirSync(stage.cwd).toSorted()).toEqual(["disk.qcow2", "disk.raw.zst"]);
    },
  },
  {
    ...WHOLE,
    title:
      "leaves the file of an earlier day when the image cannot be read, and can be tried again",
    async before(stage) {
      withBrokenImage(stage);
      await stage.shell("echo earlier > disk.raw.zst; echo rest > disk.raw.zst.part");
    },
    status: 1,
    async after(stage) {
      expect(readFileSync(stage.file("disk.raw.zst"), "utf8")).toBe("earlier\n");
      withImage(stage);
      await stage.shell(
        "nbd-streaming run pipe=exec:'zstd -q -f -o disk.raw.zst.part && mv disk.raw.zst.part disk.raw.zst' disk.qcow2",
      );
      await expectCompressed(stage);
    },
  },
  {
    ...BASH,
    title: "compresses into pieces",
    before: withImage,
    after: (stage) =>
      stage.shell("cat disk.raw.zst.* > disk.raw.zst").then(() => expectCompressed(stage)),
  },
  {
    ...BASH,
    title: "fails when the first command of the pipeline does",
    commands: { zstd: "cat > /dev/null; exit 3\n" },
    before: withImage,
    status: 4,
    after: (_, { stderr }) => expect(stderr).toMatch(/truncated: exec:.* failed with status 3$/m),
  },
  {
    document: PAGE,
    block: "subformat=fixed",
    needs: ["zstd"],
    title: "makes a fixed VHD",
    before: withImage,
    replaced: () => [["10 << 30", "16 << 20"]],
    async after(stage) {
      await stage.shell("zstd -q -d disk.vhd.zst && qemu-img info -f vpc disk.vhd");
      const compare = `qemu-img compare -f vpc -F raw disk.vhd '${stage.masters.raw}'`;
      expect(await stage.shell(compare)).toContain("identical");
    },
  },
  {
    ...OVA,
    title: "makes an image of a VMDK in an OVA",
    before: (stage) => withOva(stage, "qemu"),
    after: expectImage,
  },
  {
    ...IN_PLACE,
    title: "compresses the disk of a VMDK in an OVA",
    before: (stage) => withOva(stage, "qemu"),
    after: expectCompressed,
  },
  {
    ...IN_PLACE,
    title: "compresses the disk of a VMDK of VMware's in an OVA",
    before: (stage) => withOva(stage, "VMware"),
    after: expectCompressed,
  },
  {
    ...COMPARE,
    title: "finds that a backup is the disk",
    before: withBackup,
    after: (_, { stdout }) => expect(stdout).toContain("Images are identical."),
  },
  {
    ...COMPARE,
    title: "finds that a backup is not the disk",
    before: (stage) => withBackup(stage, "printf x | dd of=backup bs=1 seek=9000000 conv=notrunc"),
    status: 1,
    after: (_, { stdout }) => expect(stdout).toMatch(/Content mismatch at offset/),
  },
  {
    ...COMPARE,
    title: "finds that a backup is broken",
    async before(stage) {
      await withBackup(stage);
      await stage.shell("truncate -s 3M disk.raw.zst");
    },
    // qemu-img's own, for a disk that it cannot read.
    status: 4,
    after: (_, { stderr }) =>
      expect(stderr).toMatch(/truncated: exec:zstd .* failed with status 1/),
  },
  put("puts the disk with its length"),
  put("fails when the server says no", { status: 403 }),
  put("leaves the server with less than was announced when the image cannot be read", {
    broken: true,
  }),
];
