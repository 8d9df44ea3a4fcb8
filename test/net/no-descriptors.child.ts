/** A process that cannot take a descriptor because it has used up all; says what came of it. */
import type { Socket as BunSocket } from "bun";
import { connect } from "node:net";
import { O_RDONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open } from "../../ffi/fd.ts";
import { takeDescriptor } from "../../src/net/session.ts";
import { bounded } from "../support/program.ts";

const accepted = Promise.withResolvers<BunSocket>();
const listener = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open: (socket) => accepted.resolve(socket as BunSocket),
    data: (socket, chunk) => void socket.write(chunk),
  },
});
const peer = connect({ host: "127.0.0.1", port: listener.port });
const socket = await bounded(accepted.promise, "a connection");

const used: number[] = [];
try {
  for (;;) used.push(open("/dev/null", O_RDONLY));
} catch {
  // That was the last one.
}
let code = "";
try {
  takeDescriptor(socket);
} catch (error) {
  if (error instanceof SyscallError) code = error.code;
}
for (const fd of used) close(fd);

const echo = new Promise<string>((resolve) => peer.once("data", (data) => resolve(String(data))));
peer.write("hello");
console.log(JSON.stringify({ code, echoed: await bounded(echo, "the echo") }));
process.exit(0);
