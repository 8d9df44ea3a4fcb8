import { expect, setDefaultTimeout, test } from "bun:test";
import { unixAddress } from "../../ffi/socket.ts";
import { hasTcpListener, hasUnixListener, isOwnAddress } from "../../src/process/listeners.ts";
import { eventually, start } from "../support/program.ts";
import { unheard } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";
import { symlinkSync } from "node:fs";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const socket = { data() {} };

test("a Unix socket that listens is told from one that does not, by any name", () => {
  using folder = tempFolder();
  const path = folder.file("s");
  const listener = Bun.listen({ unix: path, socket });
  symlinkSync(path, folder.file("link"));
  expect(hasUnixListener(path)).toBeTrue();
  expect(hasUnixListener(folder.file("link"))).toBeTrue();
  listener.stop(true);
  using _bound = unheard(unixAddress(folder.file("bound")));
  expect(hasUnixListener(folder.file("bound"))).toBeFalse();
});

test("a Unix socket that was bound by a relative name is found", async () => {
  using folder = tempFolder();
  const code = 'Bun.listen({ unix: "s", socket: { data() {} } }); setInterval(() => {}, 1e6);';
  await using _running = start([process.execPath, "-e", code], { cwd: folder.path });
  const path = folder.file("s");
  await eventually(() => hasUnixListener(path) === true, "the listener");
});

test("a TCP port that listens is told from one that does not any more", () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const { port } = listener;
  expect(hasTcpListener("127.0.0.1", port)).toBeTrue();
  expect(hasTcpListener("127.0.0.2", port)).toBeFalse();
  listener.stop(true);
  expect(hasTcpListener("127.0.0.1", port)).toBeFalse();
  const everywhere = Bun.listen({ hostname: "0.0.0.0", port: 0, socket });
  expect(hasTcpListener("127.0.0.2", everywhere.port)).toBeTrue();
  everywhere.stop(true);
});

test("the loopback is this machine's, and documentation's addresses are not", () => {
  expect(["127.0.0.1", "127.1.2.3", "::1"].map(isOwnAddress)).toEqual([true, true, true]);
  expect(["192.0.2.1", "2001:db8::1"].map(isOwnAddress)).toEqual([false, false]);
});
