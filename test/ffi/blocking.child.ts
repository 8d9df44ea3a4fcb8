/** A process that asks for what is not there, on descriptors that block; says what it was told. */
import { fill } from "./descriptors.ts";
import { setNonBlocking } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { pipe, splice, tee } from "../../ffi/pipe.ts";
import { recv, send, socketpair } from "../../ffi/socket.ts";

const [socket, peer] = socketpair();
setNonBlocking(socket, false);
setNonBlocking(peer, false);
const [empty, full] = [pipe(), pipe()];
setNonBlocking(full.write, true);
fill(full.write);
setNonBlocking(full.write, false);
const memory = new Memory(8 * 1024 * 1024);

const received = recv(socket, memory.at(0), 1);
const spliced = splice(socket, empty.write, 1);
const first = send(socket, memory.at(0), memory.length);
let last = first;
while (last >= 0) last = send(socket, memory.at(0), memory.length);
const intoFull = splice(peer, full.write, 1);
const teed = tee(empty.read, full.write, 1);
const partly = first > 0 && first < memory.length;
console.log(JSON.stringify({ received, spliced, partly, last, intoFull, teed }));
process.exit(0);
