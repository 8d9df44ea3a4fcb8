/** Tells on a file what the terminal behind standard error is. */
import { writeFileSync } from "node:fs";
import { isInForeground, isTerminal, windowSize } from "../../ffi/terminal.ts";

writeFileSync(
  process.argv[2] as string,
  JSON.stringify({ terminal: isTerminal(2), size: windowSize(2), foreground: isInForeground(2) }),
);
