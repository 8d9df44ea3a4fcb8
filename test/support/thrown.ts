/** Errors of the command line for tests. */
import { UserError } from "../../src/errors.ts";
import { messageIn } from "../../src/messages/notice-error.ts";
import { LIBRARY, type Vocabulary } from "../../src/messages/vocabulary.ts";

/** The message of the usage error that `call` ends with. @param vocabulary whose words it is in */
export function usageErrorOf(call: () => unknown, vocabulary: Vocabulary = LIBRARY): string {
  try {
    call();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    if (error.code !== "ERR_USAGE" || error.exitStatus !== 2) throw error;
    return messageIn(error, vocabulary);
  }
  throw new Error("nothing was thrown");
}
