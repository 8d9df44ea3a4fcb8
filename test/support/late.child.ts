/** A client that is a process of its own, and late: it negotiates when it should be done, or only asks. */
import { existsSync } from "node:fs";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeOption } from "./wire.ts";

const [socket = "", stage = "", gate = ""] = process.argv.slice(2);

if (stage === "negotiation") {
  const client = await RawClient.negotiating(socket);
  console.error(`client ${process.pid} is in the ${stage}`);
  while (!existsSync(gate)) await Bun.sleep(10);
  client.send(encodeOption(NBD_OPT_EXPORT_NAME));
  await client.receive(10);
  const error = await client.write(0, Buffer.alloc(64 * 1024, 7));
  if (error !== 0) throw new Error("refused");
  client.disconnect();
} else {
  const client = await RawClient.transmission(socket);
  console.error(`client ${process.pid} is in the ${stage}`);
  for (;;) {
    await client.flush();
    await Bun.sleep(5);
  }
}
