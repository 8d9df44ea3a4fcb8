/**
 * docs/coming-from-nbdkit.md: each new line streams the disk, and so does the old one, where there
 * is a nbdkit that has the plugin.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, symlinkSync } from "node:fs";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { binFolder, blocksOf } from "../support/documented.ts";
import { qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { digestFile } from "../support/reader.ts";
import { quoted, shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

/** What goes on around a line. The disk comes to be in `copy.raw`. */
interface Surroundings {
  /** Shell words before it. */
  readonly before: string;
  /** Words of a client; the line is a server then. */
  readonly client?: string;
  /** How the old server is ended, if it does not end by itself. */
  readonly stop?: string;
  /** Shell words after it. */
  readonly after?: string;
}

const READER = "mkfifo disk.fifo; cat disk.fifo > copy.raw &";
const CONVERT = "qemu-img convert -n disk.qcow2 -O raw 'nbd+unix:///?socket=nbd.sock'";
const OVER_TLS = "nbdcopy disk.raw 'nbds+unix:///?socket=nbd.sock&tls-certificates=pki'";
const captive: Surroundings = { before: READER };

/** By what is particular to the new line. */
const SCENES: readonly (readonly [mark: string, surroundings: Surroundings])[] = [
  ["run -U - pipe=disk.fifo", captive],
  ["run write=./disk.fifo", captive],
  [
    "run read=disk.fifo",
    {
      before: "mkfifo disk.fifo; cat disk.raw > disk.fifo &",
      after: "qemu-img convert -O raw copy.qcow2 copy.raw",
    },
  ],
  ["run -U nbd.sock", captive],
  ["run -i 127.0.0.1 -p", captive],
  ["serve -P nbd.pid", { before: READER, client: CONVERT, stop: 'kill "$(cat nbd.pid)"' }],
  ["serve -v -U", { before: READER, client: CONVERT }],
  ["serve --tls=require", { before: READER, client: OVER_TLS, stop: "kill $server" }],
  ["[ nbd-streaming serve", captive],
  ["run pipe=- ", { before: ": > copy.raw" }],
];

interface Pair {
  readonly before: string;
  readonly now: string;
}

const PAIRS = blocksOf("docs/coming-from-nbdkit.md").map(({ language, text, line }): Pair => {
  const [, before, now] = /^- (\S.*)\n\+ (\S.*)\n$/.exec(text) ?? [];
  if (language !== "diff" || before === undefined || now === undefined) {
    throw new Error(`line ${line}: not an old line and a new one`);
  }
  return { before, now };
});

/** A nbdkit that has the plugin, as the variable names it, or in PATH: 1.28 was the last one. */
const NBDKIT = process.env.NBDKIT_WITH_STREAMING ?? Bun.which("nbdkit");
const OLD =
  NBDKIT !== null &&
  Bun.spawnSync([NBDKIT, "streaming", "--dump-plugin"], { stdio: ["ignore", "ignore", "ignore"] })
    .exitCode === 0;

const shared = tempFolder();
afterAll(() => shared[Symbol.dispose]());
const bin = binFolder(shared.file("bin"), OLD ? { nbdkit: `exec ${quoted(NBDKIT)} "$@"\n` } : {});
let certificates: Certificates;
let disk: string;
beforeAll(async () => {
  certificates = makeCertificates(shared.path);
  disk = (await qcow2Image(shared.file("disk.qcow2"), 8 * MiB)).sha256;
});

test("there is one scene for each pair of lines", () => {
  expect(PAIRS.length).toBeGreaterThan(5);
  for (const { now } of PAIRS) expect(scenesOf(now), now).toHaveLength(1);
  for (const [mark] of SCENES) {
    expect(
      PAIRS.filter(({ now }) => now.includes(mark)),
      mark,
    ).toHaveLength(1);
  }
});

describe.each(PAIRS)("$now", ({ before, now }) => {
  test("streams the disk", async () => {
    expect(await copied(now, false)).toBe(disk);
  });

  test.skipIf(!OLD)("is what the old line did", async () => {
    expect(await copied(before, true, now)).toBe(disk);
  });
});

function scenesOf(line: string): Surroundings[] {
  return SCENES.filter(([mark]) => line.includes(mark)).map(([, surroundings]) => surroundings);
}

/** @returns SHA-256 of what the line has made of the disk */
async function copied(line: string, old: boolean, key = line): Promise<string> {
  const [{ before, client, stop, after = ":" }] = scenesOf(key) as [Surroundings];
  using place = tempFolder();
  symlinkSync(shared.file("disk.qcow2"), place.file("disk.qcow2"));
  symlinkSync(shared.file("disk.qcow2.raw"), place.file("disk.raw"));
  cpSync(certificates.all, place.file("pki"), { recursive: true });
  // The page names NBD's own port, of which a machine has only one.
  const shown = line.replaceAll("10809", String(freePort()));
  const foreground = !old || !line.includes("nbd.pid");
  const words =
    client === undefined
      ? [`${shown} || exit`]
      : [
          foreground && !shown.endsWith("&") ? `${shown} &` : shown,
          foreground ? "server=$!" : "",
          "until [ -S nbd.sock ]; do sleep 0.02; done",
          `${client} || exit`,
          old && stop !== undefined ? stop : ":",
          // What a server says of having been killed is not what this is about.
          foreground ? `wait $server${old ? " || :" : " || exit"}` : "",
        ];
  const script = [before, ...words, "wait", `${after} || exit`].join("\n");
  const env = { PATH: `${bin}:${process.env.PATH}` };
  const { status, stderr } = await shell(script, [], { cwd: place.path, env });
  expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  return await digestFile(place.file("copy.raw"));
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
