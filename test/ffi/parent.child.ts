/** A process that ends with its parent if it is to; says when it is ready, and what ended it. */
import { endWithParent } from "../../ffi/process.ts";

const [how] = process.argv.slice(2);
process.on("SIGTERM", () => {
  console.error("SIGTERM");
  process.exit(0);
});
if (how === "ask") endWithParent();
const parent = process.ppid;
console.error("ready");
setInterval(() => {
  if (how === "ask" || process.ppid === parent) return;
  console.error("orphaned");
  process.exit(0);
}, 50);
setTimeout(() => process.exit(1), 20_000);
