/** Numbers that an option may have. The command line asks the same of what it has read. */
import { usageError } from "../errors.ts";

/** As long as a timer can run: its milliseconds are a signed 32-bit number. */
const MAX_SECONDS = 2_147_483;

/** Far more than there can be descriptors. */
const MAX_CONNECTIONS = 999_999;

/**
 * A time.
 *
 * @param shown what was given, for the message
 * @throws UserError ERR_USAGE
 */
export function checkSeconds(option: string, seconds: number, shown = String(seconds)): number {
  if (seconds > 0 && seconds <= MAX_SECONDS) return seconds;
  throw usageError(`${option} ${shown} is no time: give a number of seconds, such as 30`);
}

/** A number of clients. As {@link checkSeconds}. */
export function checkConnections(option: string, number: number, shown = String(number)): number {
  if (Number.isInteger(number) && number > 0 && number <= MAX_CONNECTIONS) return number;
  throw usageError(`${option} ${shown} is no number of clients: give one from 1 on`);
}
