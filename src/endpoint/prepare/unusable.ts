/** What the user has named cannot be a sink or a source. */

/** `it …` what it is instead, or what went wrong; `hint` says what to do about it. */
export class UnusableError extends Error {
  override readonly name = "UnusableError";
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}
