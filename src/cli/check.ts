/** `nbd-streaming check` */
import { defineCommand } from "citty";
import type { CliContext } from "./options.ts";

export const checkCommand = defineCommand({
  meta: {
    name: "check",
    description: "Check beforehand whether this machine, a pipe or a client will work, and how",
  },
  args: {
    json: { type: "boolean", description: "Write the report as JSON" },
    verbose: { type: "boolean", alias: "v", description: "Print more on stderr" },
  },
  async run({ args, data }) {
    // Loaded only here, because loading takes time that other commands do not have to spend.
    const { runCheck } = await import("./check-run.ts");
    return await runCheck(args, data as CliContext);
  },
});
