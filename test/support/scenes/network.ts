/** The recipes for TLS and systemd, and what docs/network.md has. */
import { expect } from "bun:test";
import { cpSync } from "node:fs";
import { makeCertificates } from "../certificates.ts";
import { listeningAt } from "../proc.ts";
import { command, type Running } from "../program.ts";
import {
  expectCompressed,
  expectFile,
  SMALL,
  wholeFile,
  withImage,
  withRawDisk,
} from "./masters.ts";
import type { Scene, Stage } from "./stage.ts";

/** The name in the certificates, which here is that of this machine. */
const NAME = "server.example.com";

const STRICT = ["--tls=require", "--tls-certificates=pki", "--tls-verify-peer"];

/** The port of a server that says where it listens. */
async function portOf(server: Running): Promise<string> {
  await server.saying(/listening on .*\n/);
  const port = /nbds:\/\/127\.0\.0\.1:([0-9]+)\//.exec(server.stderr)?.[1];
  if (port === undefined) throw new Error(server.stderr);
  return port;
}

function withCertificates(stage: Stage): void {
  const { all } = makeCertificates(stage.cwd);
  cpSync(all, stage.file("pki"), { recursive: true });
}

/** A server for the client of a block, of which each scene has its own. */
function client(
  scene: Pick<Scene, "block" | "title">,
  from: string,
  to: (port: string) => string,
): Scene {
  let server: Running;
  let port: string;
  return {
    document: "docs/recipes.md",
    ...scene,
    async before(stage) {
      withCertificates(stage);
      withImage(stage);
      withRawDisk(stage);
      const words = ["serve", "pipe=exec:cat > streamed", "size=16M", "-p", "0", ...STRICT];
      server = stage.start(["nbd-streaming", ...words]);
      port = await portOf(server);
    },
    replaced: () => [[from, to(port)]],
    async after(stage) {
      const { status, stderr } = await server.ended();
      expect(status, stderr).toBe(0);
      await expectFile(stage, "streamed");
    },
  };
}

/** Copies the disk to the server of a block. */
async function copyTo(stage: Stage, server: Running): Promise<void> {
  const uri = `nbds://localhost:${await portOf(server)}?tls-certificates=${stage.file("pki")}`;
  await command(["nbdcopy", stage.masters.raw, uri]);
}

export const NETWORK: readonly Scene[] = [
  {
    document: "docs/recipes.md",
    block: "openssl req",
    title: "makes certificates with which a client and the server trust each other",
    needs: ["openssl"],
    replaced: () => [[NAME, "localhost"]],
    async after(stage) {
      const words = ["pipe=exec:cat > streamed", "size=16M", "-p", "0", ...STRICT];
      const server = stage.start(["nbd-streaming", "serve", ...words]);
      await copyTo(stage, server);
      const { status, stderr } = await server.ended();
      expect(status, stderr).toBe(0);
      await expectFile(stage, "streamed");
    },
  },
  {
    document: "docs/recipes.md",
    block: "-i 0.0.0.0",
    title: "serves a client that has a certificate",
    needs: ["zstd"],
    before: withCertificates,
    replaced: () => [SMALL, ["-i 0.0.0.0", "-p 0"]],
    during: copyTo,
    after: expectCompressed,
  },
  {
    document: "docs/recipes.md",
    block: "-i 0.0.0.0",
    title: "serves no client without a certificate",
    needs: ["zstd"],
    before: withCertificates,
    replaced: () => [SMALL, ["-i 0.0.0.0", "-p 0"]],
    async during(stage, server) {
      const uri = `nbds://localhost:${await portOf(server)}?tls-certificates=${stage.file("anonymous")}`;
      await stage.shell(`! nbdinfo '${uri}'`);
      // The shell, and the server with it.
      process.kill(-server.process.pid, "SIGTERM");
    },
    status: 143,
    async after(stage, { stderr }) {
      expect(stderr).toMatch(/a connection was refused: TLS failed/);
      await stage.shell("! zstd -t disk.raw.zst");
    },
  },
  client(
    { block: "nbdcopy disk.raw 'nbds:", title: "copies a raw disk to the server by nbdcopy" },
    `nbds://${NAME}`,
    (port) => `nbds://localhost:${port}`,
  ),
  client(
    { block: "tls-creds-x509", title: "copies an image to the server by qemu-img" },
    `host=${NAME},port=10809`,
    (port) => `host=localhost,port=${port}`,
  ),
  {
    document: "docs/network.md",
    block: "nbdcopy -- disk.raw [",
    title: "is started by nbdcopy",
    needs: ["zstd"],
    before: (stage) => withRawDisk(stage),
    async after(stage) {
      await wholeFile(stage);
      await expectCompressed(stage);
    },
  },
  {
    document: "docs/network.md",
    block: "nbdcopy -- disk.raw [",
    title: "tells on stderr what nbdcopy does not look at: a sink that fails at its end",
    commands: { zstd: "cat > /dev/null; exit 3\n" },
    before: (stage) => withRawDisk(stage),
    after: (_, { stderr }) => expect(stderr).toMatch(/truncated: exec:.* failed with status 3/),
  },
  {
    document: "docs/recipes.md",
    block: "systemd-socket-activate",
    title: "is started by the first client of a socket that systemd has",
    needs: ["systemd-socket-activate", "zstd"],
    replaced: () => [SMALL],
    async during(stage) {
      const socket = stage.file("nbd.sock");
      await listeningAt(socket);
      await command(["nbdcopy", stage.masters.raw, `nbd+unix:///?socket=${socket}`]);
    },
    after: expectCompressed,
  },
  unixClient(),
];

/** The client of the socket that systemd has; a socket of the server's own does as well. */
function unixClient(): Scene {
  let server: Running;
  return {
    document: "docs/recipes.md",
    block: 'nbdcopy disk.raw "nbd+unix:',
    title: "copies a raw disk to a Unix socket",
    async before(stage) {
      withRawDisk(stage);
      const words = ["serve", "pipe=exec:cat > streamed", "size=16M", "-U", "nbd.sock"];
      server = stage.start(["nbd-streaming", ...words]);
      await server.saying(/listening on .*\n/);
    },
    async after(stage) {
      const { status, stderr } = await server.ended();
      expect(status, stderr).toBe(0);
      await expectFile(stage, "streamed");
    },
  };
}
