/** A client process that writes, stops in the middle of a request, says where, and waits to be killed. */
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { pseudoRandom } from "./images.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeRequest } from "./wire.ts";

const [socket = "", moment = ""] = process.argv.slice(2);
const PIECE = 64 * 1024;
const data = pseudoRandom(2 * PIECE);

const client = await RawClient.transmission(socket);
if ((await client.write(0, data.subarray(0, PIECE))) !== 0) throw new Error("refused");
const header = encodeRequest(NBD_CMD_WRITE, PIECE, PIECE);
if (moment === "header") client.send(header.subarray(0, 13));
if (moment === "payload") client.send(header, data.subarray(PIECE, PIECE + PIECE / 2));
while (client.socket.writableLength > 0) await Bun.sleep(5);
console.error(`client ${process.pid} is in the ${moment}`);
setInterval(() => {}, 1000);
