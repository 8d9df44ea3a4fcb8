/** What is wrong with an option, as data, and the words for it. */
import { EXIT, UserError, usageError } from "../errors.ts";

/** An option whose value cannot be taken. The message is its name and, right behind it, the problem. */
export class OptionError extends UserError {
  constructor(
    /** By the name that the library has for it. */
    readonly option: string,
    readonly problem: string,
  ) {
    super("ERR_USAGE", option + problem, EXIT.USAGE);
  }
}

/** @param given what the user has written */
export function noTime(option: string, given: number | string): OptionError {
  return new OptionError(option, ` ${given} is no time: give a number of seconds, such as 30`);
}

/** As {@link noTime}. */
export function noConnections(option: string, given: number | string): OptionError {
  return new OptionError(option, ` ${given} is no number of clients: give one from 1 on`);
}

/** What options are called where two of them are in the message. */
const NAMES = {
  exact: "--exact",
  read: "read=",
  pipe: "pipe= and write=",
  image: "image",
  format: "format",
  command: "command",
};

/** @param why what makes it so */
export function optionError(
  option: keyof typeof NAMES,
  relation: "needs" | "excludes",
  other: keyof typeof NAMES,
  why: string,
): UserError {
  const goes = relation === "needs" ? "goes with" : "goes without";
  return usageError(`${NAMES[option]} ${goes} ${NAMES[other]}: ${why}`);
}

/** @param known what there is */
export function unknownValue(option: string, value: string, known: readonly string[]): UserError {
  return usageError(`${option} ${value} is not known: there are ${known.join(", ")}`);
}
