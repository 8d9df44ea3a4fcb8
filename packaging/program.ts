/** What bin/nbd-streaming.js requires of the bundles. */
import "../src/inherited.ts";

export { main } from "../src/cli/main.ts";
