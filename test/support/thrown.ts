/** Errors of the command line for tests. */
import { UserError } from "../../src/errors.ts";

/** The message of the usage error that `call` ends with. */
export function usageErrorOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    if (error.code !== "ERR_USAGE" || error.exitStatus !== 2) throw error;
    return error.message;
  }
  throw new Error("nothing was thrown");
}
