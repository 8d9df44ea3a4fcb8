/** A client that is a process of its own: it stops in the middle, says where, and waits for its end. */
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { pseudoRandom } from "./images.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeRequest } from "./wire.ts";

const [socket = "", stage = ""] = process.argv.slice(2);
const PIECE = 64 * 1024;
const data = pseudoRandom(2 * PIECE);

const client = await RawClient.transmission(socket);
if ((await client.write(0, data.subarray(0, PIECE))) !== 0) throw new Error("refused");
const header = encodeRequest(NBD_CMD_WRITE, PIECE, PIECE);
if (stage === "header") client.send(header.subarray(0, 13));
if (stage === "payload") client.send(header, data.subarray(PIECE, PIECE + PIECE / 2));
while (client.socket.writableLength > 0) await Bun.sleep(5);
console.error(`client ${process.pid} is in the ${stage}`);
setInterval(() => {}, 1000);
