/** Says which of some signals it ignores, before and after it has reset one. */
import { isIgnored, resetSignal } from "../../ffi/signal.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGCHLD"] as const;
const before = SIGNALS.filter(isIgnored);
resetSignal("SIGCHLD");
console.log(JSON.stringify({ before, after: SIGNALS.filter(isIgnored) }));
