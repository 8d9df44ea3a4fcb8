/** Numbers that an option may have. The command line asks the same of what it has read. */
import type { Option } from "../messages/notice.ts";
import { optionError } from "../messages/notice-error.ts";

/** As long as a timer can run: its milliseconds are a signed 32-bit number. */
const MAX_SECONDS = 2_147_483;

/** Far more than there can be descriptors. */
const MAX_CONNECTIONS = 999_999;

/**
 * A time.
 *
 * @param value what was given, for the message
 * @throws UserError ERR_USAGE
 */
export function checkSeconds(
  option: Option,
  seconds: number,
  value: string | number = seconds,
): number {
  if (seconds > 0 && seconds <= MAX_SECONDS) return seconds;
  throw optionError({ code: "NOT_A_TIME", option, value });
}

/** A number of clients. As {@link checkSeconds}. */
export function checkConnections(number: number, value: string | number = number): number {
  if (Number.isInteger(number) && number > 0 && number <= MAX_CONNECTIONS) return number;
  throw optionError({ code: "NOT_A_NUMBER", option: "maxConnections", value });
}
