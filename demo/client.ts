/** An NBD client that writes the demo's disk to the Unix socket that it is told. */
import { NbdClient } from "../src/captive/nbd-client.ts";
import { NBD_CMD_FLUSH, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from "../src/protocol/constants.ts";
import { PARTS } from "./disk.ts";

using client = await NbdClient.connect({ path: process.argv[2] as string });
for (const { offset, length, fill } of PARTS) {
  if (fill === undefined) client.send(NBD_CMD_WRITE_ZEROES, offset, length);
  else client.send(NBD_CMD_WRITE, offset, length, Buffer.alloc(length, fill));
  await client.awaitReplies();
}
client.send(NBD_CMD_FLUSH, 0, 0);
await client.awaitReplies();
await client.disconnect();
