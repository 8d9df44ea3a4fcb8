/** Makes the picture in README anew, from a session of the program as it is now. */
import { COLUMNS, NEEDS, PICTURE, recordSession } from "./session.ts";
import { pictureOf } from "./svg.ts";

const missing = NEEDS.filter((tool) => Bun.which(tool) === null);
if (missing.length > 0) {
  console.error(`picture: it needs ${missing.join(", ")}`);
  process.exit(1);
}
await Bun.write(PICTURE, pictureOf(await recordSession(), COLUMNS));
// The binary of the tests would be kept for the next one.
process.exit(0);
