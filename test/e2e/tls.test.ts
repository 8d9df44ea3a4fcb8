import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { copied, digestDisk } from "../support/copied.ts";
import { type Image, qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, runProgram, start, startProgram } from "../support/program.ts";
import { digestFifo, digestFile } from "../support/reader.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";
import { failure, secureTransmission } from "../support/tls-client.ts";
import { Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
const SIZE = 20 * 1024 * 1024;
let pki: Certificates;
let image: Image;

beforeAll(async () => {
  pki = makeCertificates(folder.path);
  image = await qcow2Image(folder.file("disk.qcow2"), SIZE);
});
afterAll(() => folder[Symbol.dispose]());

/** All that there is to ask for. */
const strict = () => ["--tls=require", `--tls-certificates=${pki.all}`, "--tls-verify-peer"];

/** qemu's words for a client of the server that `where` finds. */
const credentials = () => ["--object", `tls-creds-x509,id=tls0,dir=${pki.all},endpoint=client`];
const PLACES = [
  {
    place: "a Unix socket",
    args: [] as string[],
    qemu: "driver=nbd,path=$unixsocket,tls-creds=tls0,tls-hostname=localhost",
  },
  {
    place: "TCP",
    args: ["-p", "0"],
    qemu: "driver=nbd,host=127.0.0.1,port=$port,tls-creds=tls0",
  },
];

describe.each(PLACES)("over $place with TLS and certificates on both sides", ({ args, qemu }) => {
  test("nbdcopy writes the exact disk", async () => {
    const words = [...args, ...strict(), "--", "nbdcopy", `${image.path}.raw`, "$uri"];
    expect(await streamed(words)).toBe(image.sha256);
  });

  test("qemu-img writes the exact disk", async () => {
    const convert = ["qemu-img", "convert", "-n", "-f", "qcow2", ...credentials()];
    const words = ["--", ...convert, "--target-image-opts", image.path, qemu];
    expect(await streamed([...args, ...strict(), ...words])).toBe(image.sha256);
  });

  test("nbdcopy reads the exact disk", async () => {
    const copy = folder.file(`nbdcopy${args.length}.raw`);
    const words = [`size=${SIZE}`, ...args, ...strict(), "--", "nbdcopy", "$uri", copy];
    const { status, stderr } = await copied("a FIFO", `${image.path}.raw`, words, folder.path);
    expect(status, stderr).toBe(0);
    expect(await digestFile(copy)).toBe(image.sha256);
  });

  test("qemu-img reads the exact disk", async () => {
    const copy = folder.file(`qemu${args.length}.qcow2`);
    const convert = ["qemu-img", "convert", ...credentials(), "--image-opts", "-O", "qcow2"];
    const words = [`size=${SIZE}`, ...args, ...strict(), "--", ...convert, qemu, copy];
    const { status, stderr } = await copied("a FIFO", `${image.path}.raw`, words, folder.path);
    expect(status, stderr).toBe(0);
    expect(await digestDisk(copy, "qcow2")).toBe(image.sha256);
  });
});

test("serve takes a copy over TCP from a client that checks the server's name", async () => {
  const fifo = folder.file("serve.fifo");
  await using digest = digestFifo(fifo);
  await using program = startProgram(["serve", `pipe=${fifo}`, "-p", "0", ...strict()]);
  await program.saying(/listening on .*\n/);
  const port = /nbds:\/\/127\.0\.0\.1:([0-9]+)\//.exec(program.stderr)?.[1];
  const uri = `nbds://localhost:${port}/?tls-certificates=${pki.all}`;
  await command(["nbdcopy", `${image.path}.raw`, uri]);
  expect((await program.ended()).status).toBe(0);
  expect(await digest.sha256()).toBe(image.sha256);
});

describe("run with --tls=require", () => {
  test("has a URI for TLS, $tls, and finds clients their certificates wherever it was started", async () => {
    const script = 'printf "%s|%s" "$tls" "$uri"; exec nbdinfo --size "$uri" >/dev/null';
    const args = ["--tls=require", "--tls-certificates=all", "--tls-verify-peer"];
    const { status, stdout, stderr } = await runProgram(
      ["run", "pipe=/dev/null", "size=1M", "--no-pad", ...args, "--", "sh", "-c", script],
      { cwd: folder.path },
    );
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^require\|nbds\+unix:\/\/\/\?socket=.+&tls-certificates=\//);
    expect(stdout).toEndWith(`&tls-certificates=${pki.all}`);
  });

  test("escapes the folder's name in the URI", async () => {
    const odd = folder.file("a & b?%#=é");
    await command(["cp", "-r", pki.all, odd]);
    const args = ["--tls=require", `--tls-certificates=${odd}`, "--tls-verify-peer"];
    const words = ["size=1M", "--no-pad", ...args, "--", "nbdinfo", "--size", "$uri"];
    const { status, stdout, stderr } = await runProgram(["run", "pipe=/dev/null", ...words]);
    expect(status, stderr).toBe(0);
    expect(stdout).toBe("1048576\n");
  });
});

test.each(["off", "on"])("run with --tls=%s has a URI for the clear, and says so", async (tls) => {
  const certificates = tls === "on" ? [`--tls-certificates=${pki.all}`] : [];
  const script = 'printf "%s|%s" "$tls" "$uri"; exec nbdinfo --size "$uri" >/dev/null';
  const { status, stdout, stderr } = await runProgram(
    ["run", "pipe=/dev/null", "size=1M", "--no-pad", `--tls=${tls}`, ...certificates].concat([
      "--",
      "sh",
      "-c",
      script,
    ]),
  );
  expect(status, stderr).toBe(0);
  expect(stdout).toStartWith(`${tls}|nbd+unix:///?socket=`);
});

describe("who is served", () => {
  /** How nbdinfo comes: in the clear, or with the certificates of a folder. */
  type Visitor = "plain" | "all" | "anonymous" | "stranger";
  const CASES: [string, string[], Record<Visitor, boolean>][] = [
    ["off", [], { plain: true, all: false, anonymous: false, stranger: false }],
    ["on", [], { plain: true, all: true, anonymous: true, stranger: true }],
    ["require", [], { plain: false, all: true, anonymous: true, stranger: true }],
    [
      "require",
      ["--tls-verify-peer"],
      { plain: false, all: true, anonymous: false, stranger: false },
    ],
    ["on", ["--tls-verify-peer"], { plain: true, all: true, anonymous: false, stranger: false }],
  ];

  test.each(CASES)("with --tls=%s %p, and refusals do no harm", async (tls, more, expected) => {
    const certificates = tls === "off" ? [] : [`--tls-certificates=${pki.all}`];
    const args = ["size=1M", "--no-pad", `--tls=${tls}`, ...certificates, ...more];
    await using trial = await Trial.serve("FIFO", { args });
    const uri = (visitor: Visitor) =>
      visitor === "plain"
        ? `nbd+unix:///?socket=${trial.socket}`
        : `nbds+unix:///?socket=${trial.socket}&tls-certificates=${pki[visitor]}`;
    const visitors = Object.keys(expected) as Visitor[];
    const served = await Promise.all(
      visitors.map(async (visitor) => {
        await using nbdinfo = start(["nbdinfo", "--size", uri(visitor)]);
        const { status, stdout } = await nbdinfo.ended();
        return [visitor, status === 0 && stdout === "1048576\n"];
      }),
    );
    expect(Object.fromEntries(served)).toEqual(expected);
    // The stream is as it was.
    const data = Buffer.alloc(300_000, "data");
    writeFileSync(trial.file("data"), data);
    await command(["nbdcopy", trial.file("data"), uri(tls === "off" ? "plain" : "all")]);
    await trial.completes(data);
  });

  test("nobody without a certificate of the authority where they are verified, and the log says why", async () => {
    await using trial = await Trial.serve("FIFO", { args: ["size=1M", "--no-pad", ...strict()] });
    // Other than GnuTLS, this client sends the stranger's certificate, asked for or not.
    for (const folder of [undefined, pki.stranger]) {
      const client = secureTransmission(trial.socket, pki.authority.certificate, folder);
      expect(await failure(client)).toBe("closed after 0 bytes");
    }
    const told = /warn: a connection was refused: TLS failed: (.*)\n.*: TLS failed: (.*)\n/s;
    await trial.program.saying(told);
    const [, missing, stranger] = told.exec(trial.program.stderr) ?? [];
    expect(missing).toContain("PEER_DID_NOT_RETURN_A_CERTIFICATE");
    expect(stranger).toContain("unable to verify the first certificate");
    await using client = await secureTransmission(trial.socket, pki.authority.certificate, pki.all);
    expect(await client.inside.write(0, Buffer.from("data"))).toBe(0);
    client.inside.disconnect();
    await trial.completes(Buffer.from("data"));
  });
});
