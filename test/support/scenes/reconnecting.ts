/** What docs/reconnect.md has: a client through a link that breaks. */
import { expect } from "bun:test";
import { BreakingLink } from "../../soak/breaking-link.ts";
import { command, type Running } from "../program.ts";
import { expectCompressed, expectFile, SMALL, withImage } from "./masters.ts";
import type { Scene } from "./stage.ts";

const PAGE = "docs/reconnect.md";

/** Bytes after which the link of the first connection breaks: in the middle of the disk. */
const BREAK = 5_000_000;

async function portOf(server: Running): Promise<number> {
  await server.saying(/listening on .*\n/);
  return Number(/nbd:\/\/127\.0\.0\.1:([0-9]+)\//.exec(server.stderr)?.[1]);
}

/** A link to a server, which breaks once. */
async function breakingLink(server: Running): Promise<BreakingLink & { readonly port: number }> {
  const proxy = new BreakingLink({
    listen: { host: "127.0.0.1", port: 0 },
    server: { host: "127.0.0.1", port: await portOf(server) },
    fate: (connection) => (connection === 0 ? { after: BREAK, how: "closed" } : undefined),
  });
  return Object.assign(proxy, { port: await proxy.listen() });
}

function client(): Scene {
  let server: Running;
  let link: Awaited<ReturnType<typeof breakingLink>>;
  return {
    document: PAGE,
    block: "reconnect-delay=30",
    title: "copies an image though its connection is lost on the way",
    async before(stage) {
      withImage(stage);
      const words = ["serve", "pipe=exec:cat > streamed", "size=16M", "--reconnect=30", "-p", "0"];
      server = stage.start(["nbd-streaming", ...words]);
      link = await breakingLink(server);
    },
    replaced: () => [["port=10809", `port=${link.port}`]],
    async after(stage) {
      const { status, stderr } = await server.ended();
      expect(status, stderr).toBe(0);
      expect(link.broken).toBe(1);
      await link[Symbol.asyncDispose]();
      await expectFile(stage, "streamed");
    },
  };
}

export const RECONNECTING: readonly Scene[] = [
  {
    document: PAGE,
    block: "--reconnect 30",
    title: "serves a client whose connection is lost on the way",
    needs: ["zstd"],
    replaced: () => [SMALL, ["--reconnect 30", "--reconnect 30 -p 0"]],
    async during(stage, server) {
      await using link = await breakingLink(server);
      const target = `driver=nbd,host=127.0.0.1,port=${link.port},reconnect-delay=30`;
      const { qcow2 } = stage.masters;
      await command(["qemu-img", "convert", "-n", qcow2, "--target-image-opts", target]);
      expect(link.broken).toBe(1);
    },
    after: expectCompressed,
  },
  client(),
];
