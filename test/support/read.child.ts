/** A client process that reads, stops in the middle of a request, says where, and waits to be killed. */
import { NBD_CMD_READ } from "../../src/protocol/constants.ts";
import { encodeRequest } from "./wire.ts";
import { ReadClient } from "./read-client.ts";

const [socket = "", moment = "", form = ""] = process.argv.slice(2);
const MiB = 1024 * 1024;

const client = await ReadClient.transmission(socket, form === "structured");
const { error } = await client.readAll(0, 2 * MiB, 256 * 1024);
if (error !== 0) throw new Error("refused");
const { raw } = client;
if (moment === "header") raw.send(encodeRequest(NBD_CMD_READ, 2 * MiB, MiB).subarray(0, 13));
if (moment === "reply") {
  client.ask(2 * MiB, 6 * MiB);
  await raw.receive(16);
  raw.socket.pause();
}
if (moment === "jump") client.ask(2 ** 40, 4096);
while (raw.socket.writableLength > 0) await Bun.sleep(5);
console.error(`client ${process.pid} is in the ${moment}`);
setInterval(() => {}, 1000);
