/** Says with which statuses two children end, one of which Bun has started. */
import { Child } from "../../src/process/child.ts";

const argv = ["sh", "-c", "exit 7"];
const child = new Child({ file: "/bin/sh", argv, env: {}, stdio: [], place: "here" });
await child.exited;
console.log(child.exitCode, await Bun.spawn(["sh", "-c", "exit 8"]).exited);
process.exit(0);
