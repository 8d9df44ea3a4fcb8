/** Errors of the user whose messages name options. */
import { type ErrorCode, EXIT, messageOf, UserError } from "../errors.ts";
import type { Notice } from "./notice.ts";
import { textOf } from "./text.ts";
import { LIBRARY, type Vocabulary } from "./vocabulary.ts";

/** Its message has the library's names of options; see {@link messageIn} for others. */
export class NoticeError extends UserError {
  constructor(
    code: ErrorCode,
    readonly notice: Notice,
    exitStatus?: number,
  ) {
    super(code, textOf(notice, LIBRARY), exitStatus);
  }
}

/** An option that is wrong. */
export function optionError(notice: Notice): NoticeError {
  return new NoticeError("ERR_USAGE", notice, EXIT.USAGE);
}

/** The text of anything that was thrown, with the names of options in `vocabulary`. */
export function messageIn(error: unknown, vocabulary: Vocabulary): string {
  if (!(error instanceof NoticeError)) return messageOf(error);
  const { subject, notice } = error;
  return `${subject === undefined ? "" : `${subject}: `}${textOf(notice, vocabulary)}`;
}
