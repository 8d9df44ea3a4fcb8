/** The image, and what docs/kubernetes.md runs in it, without a container: no cluster is at hand. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { debName, makeDeb } from "../../packaging/deb/package.ts";
import { blocksOf } from "../support/documented.ts";
import { qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, PROGRAM, ROOT, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const SIZE = 4 * 1024 * 1024;
let image: { path: string; sha256: string };
let raw: string;

beforeAll(async () => {
  image = await qcow2Image(folder.file("disk.qcow2"), SIZE);
  raw = folder.file("disk.raw");
  await command(["qemu-img", "convert", "-O", "raw", image.path, raw]);
});

/** The instructions of the Containerfile, a line each. */
function instructions(): string[] {
  const text = readFileSync(join(ROOT, "packaging/container/Containerfile"), "utf8");
  const lines = text
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll(/\\\n/g, " ")
    .split("\n");
  return lines.map((line) => line.replaceAll(/\s+/g, " ").trim()).filter((line) => line !== "");
}

describe("the Containerfile", () => {
  test("installs a package that a release has, with what that recommends", async () => {
    const lines = instructions();
    const [, pattern = ""] =
      /^COPY (\S+) /.exec(lines.find((line) => line.startsWith("COPY")) ?? "") ?? [];
    for (const machine of ["linux-x64", "linux-arm64"] as const) {
      expect(new Bun.Glob(pattern).match(debName(machine))).toBe(true);
    }
    if (Bun.which("dpkg-deb") === null) return;
    const path = folder.file("it.deb");
    makeDeb(path, join(ROOT, "LICENSE"), "linux-x64", { name: "0", time: 1 });
    const recommended = (await command(["dpkg-deb", "-f", path, "Recommends"])).trim().split(", ");
    const installed = lines.find((line) => line.startsWith("RUN"))?.split(" ");
    expect(installed).toEqual(expect.arrayContaining(recommended));
  });

  test("names its base where Dependabot finds it", () => {
    const bases = instructions().filter((line) => /^(FROM|ARG)\b/.test(line));
    expect(bases).toEqual([expect.stringMatching(/^FROM debian:[a-z-]+(@sha256:[0-9a-f]{64})?$/)]);
  });

  test("runs the program of the package, and not as root", () => {
    const lines = instructions();
    expect(lines).toContain('ENTRYPOINT ["/usr/bin/nbd-streaming"]');
    const user = lines.find((line) => line.startsWith("USER ")) ?? "";
    expect(user).toMatch(/^USER [1-9]\d*:[1-9]\d*$/);
    const uid = user.split(/[ :]/)[1];
    const page = readFileSync(join(ROOT, "docs/kubernetes.md"), "utf8");
    expect(page).toContain(`runAsUser: ${uid}\n`);
    expect(page).toContain(`runs as user ${uid}.`);
  });
});

interface Container {
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string }[];
}

/** What Kubernetes puts into the variable of the Job. */
const POD = { POD: "stream-vm-disk-x7k2p" };

/** The container of the block of docs/kubernetes.md with a text. */
function container(text: string): Container {
  const block = blocksOf("docs/kubernetes.md").find((one) => one.text.includes(text));
  const parsed = Bun.YAML.parse(block?.text ?? "") as {
    spec?: { template: { spec: { containers: Container[] } } };
    containers?: Container[];
  };
  return (parsed.spec?.template.spec ?? parsed).containers?.[0] as Container;
}

/** Its words, with other paths and sizes. */
function adaptedArgs(text: string, replaced: Readonly<Record<string, string>>): string[] {
  const words = container(text).args.join("\0");
  return Object.entries(replaced)
    .reduce((all, [from, to]) => {
      expect(all).toContain(from);
      return all.replaceAll(from, to);
    }, words)
    .split("\0");
}

const NO_ZSTD = Bun.which("zstd") === null;
const NO_CURL = Bun.which("curl") === null;

test.skipIf(NO_ZSTD)("the Job of docs/kubernetes.md compresses the disk of the claim", async () => {
  const backup = folder.file("backup");
  await command(["mkdir", backup]);
  const args = adaptedArgs("kind: Job", { "/dev/vm-disk": raw, "/backup": backup });
  expect(container("kind: Job").env?.map(({ name }) => name)).toEqual(Object.keys(POD));
  await using running = start([...PROGRAM, ...args], { env: POD });
  const { status, stderr } = await running.ended();
  expect(status, stderr).toBe(0);
  const unpacked = await command(["sh", "-c", `zstd -dc ${backup}/disk.raw.zst | sha256sum`]);
  expect(unpacked).toBe(`${image.sha256}  -\n`);
  expect(await command(["ls", "-A", backup])).toBe("disk.raw.zst\n");
});

test.skipIf(NO_ZSTD)(
  "that Job leaves nothing under the disk's name if the disk cannot be read",
  async () => {
    const backup = folder.file("nothing");
    await command(["mkdir", backup]);
    const args = adaptedArgs("kind: Job", { "/dev/vm-disk": "/nonexistent", "/backup": backup });
    await using running = start([...PROGRAM, ...args], { env: POD });
    expect((await running.ended()).status).toBe(1);
    expect(await command(["ls", backup])).toBe("");
  },
);

test.skipIf(NO_ZSTD)("two pods of that Job at once do not touch each other's part", async () => {
  const backup = folder.file("shared");
  await command(["mkdir", backup]);
  const args = adaptedArgs("kind: Job", { "/dev/vm-disk": raw, "/backup": backup });
  // The other one has begun, and is out of reach.
  const other = join(backup, ".stream-vm-disk-other");
  writeFileSync(other, "a part");
  await using running = start([...PROGRAM, ...args], { env: POD });
  expect((await running.ended()).status).toBe(0);
  expect(readFileSync(other, "utf8")).toBe("a part");
  expect(args.join(" ").match(/\$POD\b/g)?.length).toBe(2);
});

test("that Job may run where Pod Security is restricted", () => {
  const block = blocksOf("docs/kubernetes.md").find((one) => one.text.includes("kind: Job"));
  expect(Bun.YAML.parse(block?.text ?? "")).toMatchObject({
    spec: {
      template: {
        spec: {
          securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
          containers: [
            {
              securityContext: {
                allowPrivilegeEscalation: false,
                capabilities: { drop: ["ALL"] },
              },
            },
          ],
        },
      },
    },
  });
});

describe.skipIf(NO_CURL)("the import of docs/kubernetes.md", () => {
  async function imported(served: Buffer, name: string) {
    await using server = serving(served);
    const args = adaptedArgs("read=exec:", {
      "size=10G": `size=${SIZE}`,
      "/images": folder.path,
      "disk.qcow2": name,
    });
    const env = {
      EXPORT: `http://127.0.0.1:${server.port}/volumes/disk/disk.img`,
      TOKEN: "s3cret",
    };
    await using running = start([...PROGRAM, ...args], { env });
    return await running.ended();
  }

  test("makes the image of the export, for which it has the token", async () => {
    const { status, stderr } = await imported(readFileSync(raw), "imported.qcow2");
    expect(status, stderr).toBe(0);
    const compared = await command([
      "qemu-img",
      "compare",
      image.path,
      folder.file("imported.qcow2"),
    ]);
    expect(compared).toContain("identical");
  });

  test("makes none of an export that is cut off", async () => {
    const { status } = await imported(readFileSync(raw).subarray(0, SIZE / 2), "half.qcow2");
    expect(status).not.toBe(0);
    expect(await Bun.file(folder.file("half.qcow2")).exists()).toBe(false);
  });
});

/** A KubeVirt export, as far as a client sees it. */
function serving(data: Buffer) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) =>
      request.headers.get("x-kubevirt-export-token") === "s3cret"
        ? new Response(data)
        : new Response("who are you?", { status: 401 }),
  });
}
