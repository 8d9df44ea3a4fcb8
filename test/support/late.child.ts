/** A client process that is late: it negotiates until a file is there and then writes, or only flushes. */
import { existsSync } from "node:fs";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeOption } from "./wire.ts";

const [socket = "", moment = "", gate = ""] = process.argv.slice(2);

if (moment === "negotiation") {
  const client = await RawClient.negotiating(socket);
  console.error(`client ${process.pid} is in the ${moment}`);
  while (!existsSync(gate)) await Bun.sleep(10);
  client.send(encodeOption(NBD_OPT_EXPORT_NAME));
  await client.receive(10);
  const error = await client.write(0, Buffer.alloc(64 * 1024, 7));
  if (error !== 0) throw new Error("refused");
  client.disconnect();
} else {
  const client = await RawClient.transmission(socket);
  console.error(`client ${process.pid} is in the ${moment}`);
  for (;;) {
    await client.flush();
    await Bun.sleep(5);
  }
}
