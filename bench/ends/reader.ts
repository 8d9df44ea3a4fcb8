/**
 * `bun reader.ts SOCKET [--pass]`: listens on a Unix socket, reads all that its first client sends,
 * and throws it away or passes it to standard output.
 */
import { writeSync } from "node:fs";

const [unix = "", option] = process.argv.slice(2);

function pass(chunk: Uint8Array): void {
  for (let done = 0; done < chunk.length;) done += writeSync(1, chunk, done);
}

Bun.listen({
  unix,
  socket: {
    data(_, chunk) {
      if (option === "--pass") pass(chunk);
    },
    // Its process ends with its only client.
    close: () => process.exit(),
    error(_, error) {
      console.error(error.message);
      process.exit(1);
    },
  },
});
