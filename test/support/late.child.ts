/**
 * A client process that is late: it negotiates until a file is there and then writes; or it makes a file, waits
 * for the end of its parent, and connects and writes then; or it only flushes.
 */
import { existsSync, writeFileSync } from "node:fs";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeOption } from "./wire.ts";

const [socket = "", moment = "", gate = "", at = "0", length = "65536"] = process.argv.slice(2);

async function write(client: RawClient): Promise<void> {
  const error = await client.write(Number(at), Buffer.alloc(Number(length), 7));
  if (error !== 0) throw new Error("refused");
  client.disconnect();
}

if (moment === "negotiation") {
  const client = await RawClient.negotiating(socket);
  console.error(`client ${process.pid} is in the ${moment}`);
  while (!existsSync(gate)) await Bun.sleep(10);
  client.send(encodeOption(NBD_OPT_EXPORT_NAME));
  await client.receive(10);
  await write(client);
} else if (moment === "connection") {
  const parent = process.ppid;
  writeFileSync(gate, "");
  while (process.ppid === parent) await Bun.sleep(5);
  await write(await RawClient.transmission(socket));
} else {
  const client = await RawClient.transmission(socket);
  console.error(`client ${process.pid} is in the ${moment}`);
  for (;;) {
    await client.flush();
    await Bun.sleep(5);
  }
}
