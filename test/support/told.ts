/** What the user of the command line is told. */
import { COMMAND_LINE } from "../../src/cli/vocabulary.ts";
import type { Words } from "../../src/messages/notice.ts";
import { textOf } from "../../src/messages/text.ts";

/** @returns undefined where there is nothing to tell */
export function told(words: Words | undefined): string | undefined {
  return words === undefined ? undefined : textOf(words, COMMAND_LINE);
}
