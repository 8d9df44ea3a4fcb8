/** An NBD client that writes the demo's disk to the Unix socket that it is told. */
import { SelfTestClient } from "../src/check/self-test-client.ts";
import { PARTS } from "./disk.ts";

using client = await SelfTestClient.connect(process.argv[2] as string);
for (const { offset, length, fill } of PARTS) {
  if (fill === undefined) client.writeZeroes(offset, length);
  else client.write(offset, Buffer.alloc(length, fill));
  await client.settle();
}
await client.flush();
await client.disconnect();
