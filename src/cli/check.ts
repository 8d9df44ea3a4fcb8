/** `nbd-streaming check` */
import { defineCommand } from "citty";
import type { CliContext } from "./options.ts";

export const checkCommand = defineCommand({
  meta: {
    name: "check",
    description: "See whether this machine, a pipe, or a client can do it, and how",
  },
  args: {
    json: { type: "boolean", description: "Write the report as JSON" },
    verbose: { type: "boolean", alias: "v", description: "Say more on stderr" },
  },
  async run({ args, data }) {
    // Only now: who streams need not wait for it to be loaded.
    const { runCheck } = await import("./check-run.ts");
    return await runCheck(args, data as CliContext);
  },
});
