import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { exportAddress, exportSize } from "../../src/captive/export-size.ts";
import { imageSize } from "../../src/captive/qemu-img.ts";
import { NBD_FLAG_C_FIXED_NEWSTYLE } from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { pseudoRandom } from "../support/images.ts";
import { eventually, type Running, runProgram, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const NEVER = new AbortController().signal;
/** No whole number of sectors. */
const ODD = 1_000_001;
const NAME = "a disk?socket=x";

const folder = tempFolder();
const socket = folder.file("nbd.sock");
const withNbdkit = test.skipIf(Bun.which("nbdkit") === null);
let server: Running | undefined;

beforeAll(async () => {
  writeFileSync(folder.file("odd.raw"), pseudoRandom(ODD, 3));
  if (Bun.which("nbdkit") === null) return;
  const ready = folder.file("nbdkit.pid");
  const words = ["-f", "-e", NAME, "-U", socket, "-P", ready, "file", folder.file("odd.raw")];
  server = start(["nbdkit", ...words]);
  // The socket's file is there before anybody listens on it.
  await eventually(() => existsSync(ready), "nbdkit to listen");
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

describe("the address of an export, as qemu-img writes it,", () => {
  test.each([
    ["nbd+unix://?socket=/run/nbd.sock", { unix: "/run/nbd.sock", name: "" }],
    ["nbd+unix:///a b?socket=nbd.sock", { unix: "nbd.sock", name: "a b" }],
    ["nbd://127.0.0.1:10809", { hostname: "127.0.0.1", port: 10809, name: "" }],
    ["nbd://host:1/disk/1", { hostname: "host", port: 1, name: "disk/1" }],
    ["nbd://::1:10809/x", { hostname: "::1", port: 10809, name: "x" }],
    ["nbd://[::1]:10809", { hostname: "::1", port: 10809, name: "" }],
  ])("%s is read", (filename, address) => {
    expect(exportAddress(filename)).toEqual(address);
  });

  test.each(["disk.raw", "https://host/disk.raw", 'json:{"driver":"nbd"}', "rbd:pool/nbd"])(
    "%s is none",
    (filename) => expect(exportAddress(filename)).toBeUndefined(),
  );
});

describe("the size of an export that ends within a sector", () => {
  withNbdkit("is exact (needs nbdkit)", async () => {
    expect(await exportSize({ unix: socket, name: "" }, NEVER)).toBe(BigInt(ODD));
  });

  withNbdkit.each([
    `nbd+unix:///?socket=${socket}`,
    `nbd+unix:///${encodeURIComponent("a disk")}?socket=${socket}`,
    `nbd:unix:${socket}`,
    `json:{"driver":"nbd","server":{"type":"unix","path":"${socket}"}}`,
  ])("is that of the image that qemu-img reads as %s (needs nbdkit)", async (image) => {
    expect(await imageSize(image, undefined, NEVER)).toBe(BigInt(ODD));
  });

  withNbdkit("is how long the stream of it is (needs nbdkit)", async () => {
    const out = folder.file("out");
    const image = `nbd+unix:///?socket=${socket}`;
    const ended = await runProgram(["run", `pipe=exec:cat > '${out}'`, image]);
    expect(ended.status, ended.stderr).toBe(0);
    expect(await Bun.file(out).bytes()).toEqual(await Bun.file(folder.file("odd.raw")).bytes());
  });
});

test("a file behind the name of a protocol has its exact size, too", async () => {
  expect(await imageSize(`file:${folder.file("odd.raw")}`, undefined, NEVER)).toBe(BigInt(ODD));
});

describe("a server", () => {
  /** One that does this with what it hears. @returns its address */
  function serving(
    open: (socket: Bun.Socket) => void,
    data: (socket: Bun.Socket, chunk: Buffer) => void = () => {},
  ): AsyncDisposable & { readonly unix: string } {
    const unix = folder.file(`${Bun.randomUUIDv7()}.sock`);
    const listener = Bun.listen({ unix, socket: { open, data } });
    return { unix, [Symbol.asyncDispose]: () => Promise.resolve(listener.stop(true)) };
  }

  /** Why it does not tell. */
  async function refusal(unix: string, stop = NEVER): Promise<string> {
    const size = exportSize({ unix, name: "" }, stop);
    return await size.then(String, (error: Error) => error.message);
  }

  test("that speaks something else is told from one that tells the size", async () => {
    await using server = serving((socket) => void socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    expect(await refusal(server.unix)).toContain("does not negotiate");
  });

  const GREETING = Buffer.from("NBDMAGICIHAVEOPT\0\x01", "latin1");
  /** The size, the flags and the zeroes. */
  const EXPORT = Buffer.alloc(8 + 2 + 124);
  EXPORT.writeBigUInt64BE(BigInt(ODD));

  test("without NBD_FLAG_NO_ZEROES tells the size, and is not asked to leave out the zeroes", async () => {
    let flags: number | undefined;
    await using server = serving(
      (socket) => void socket.write(GREETING),
      (socket, chunk) => {
        if (flags !== undefined) return;
        flags = chunk.readUInt32BE(0);
        socket.write(EXPORT);
      },
    );
    expect(await refusal(server.unix)).toBe(String(ODD));
    expect(flags).toBe(NBD_FLAG_C_FIXED_NEWSTYLE);
  });

  test("that keeps the connection open keeps no program from its end", async () => {
    const unix = folder.file("half-open.sock");
    const open = (socket: Bun.Socket) => void socket.write(Buffer.concat([GREETING, EXPORT]));
    const listener = Bun.listen({
      unix,
      allowHalfOpen: true,
      socket: { open, data() {}, end() {} },
    });
    const module = `${import.meta.dir}/../../src/captive/export-size.ts`;
    const script = `const { exportSize } = await import(${JSON.stringify(module)});
      console.log(String(await exportSize(${JSON.stringify({ unix, name: "" })}, new AbortController().signal)));`;
    try {
      const child = Bun.spawn([process.execPath, "-e", script], { timeout: 20_000 });
      expect(await new Response(child.stdout).text()).toBe(`${ODD}\n`);
      expect(await child.exited).toBe(0);
    } finally {
      listener.stop(true);
    }
  });

  test("that closes the connection does not tell", async () => {
    await using server = serving((socket) => void socket.end());
    expect(await refusal(server.unix)).toContain("closed the connection");
  });

  test("that says nothing is given up when asked", async () => {
    await using server = serving(() => stop.abort());
    const stop = new AbortController();
    expect(await refusal(server.unix, stop.signal)).toContain("does not answer");
  });

  test("that is not there does not tell", async () => {
    expect(await refusal(folder.file("none"))).toMatch(/connect/i);
  });
});
