/** A program with a stream and a fault: a listener that throws, or an end in the middle. */
import { serve, type StreamingEvents } from "../../src/index.ts";
import { RawClient } from "../support/nbd-client.ts";

const [fault = "", path = "", output = ""] = process.argv.slice(2);

process.on("uncaughtException", ({ message }) => console.log(`uncaught: ${message}`));

const pipe = `exec:cat > ${output}; echo end > ${output}.end`;
const stream = serve({ pipe, listen: { kind: "unix", path }, progressInterval: 0.01 });
const listening = new Promise((resolve) => stream.once("listening", resolve));
if (fault !== "exit") {
  stream.once(fault as keyof StreamingEvents, () => {
    throw new Error(fault);
  });
}
await listening;
using client = await RawClient.transmission(path);
await client.write(0, Buffer.alloc(4096, 7));
if (fault === "exit") process.exit(9);
client.disconnect();
console.log(`complete: ${(await stream).bytes}`);
