/** What is wrong with an option, as data, and the words for it. */
import type { Direction } from "../endpoint/spec.ts";
import { EXIT, UserError } from "../errors.ts";
import type { StreamOptions } from "./options.ts";

/** An option that is a time or a number; the one for a FIFO's other end has two names, by direction. */
export type NumberOption =
  | Exclude<KeysOf<StreamOptions, number | undefined>, "openTimeout">
  | "readerTimeout"
  | "writerTimeout";

type KeysOf<Options, Value> = {
  [Name in keyof Options]-?: Options[Name] extends Value ? Name : never;
}[keyof Options];

/** `value` is what was given. */
export type OptionProblem =
  | { readonly code: "ENDPOINT_MISSING" | "ENDPOINT_TWICE" | "EXACT_WRITTEN" | "IMAGE_STANDARD" }
  | {
      readonly code: "ENDPOINT_MALFORMED";
      readonly direction: Direction;
      readonly endpoint: string;
      readonly why: string;
      readonly hint: string;
    }
  | { readonly code: "ENDPOINT_IS_IMAGE"; readonly direction: Direction; readonly endpoint: string }
  | { readonly code: "EXPORT_NAME"; readonly most: number }
  | {
      readonly code: "NOT_A_SIZE";
      readonly option: "size" | "window";
      readonly value: string | number | bigint;
    }
  | {
      readonly code: "SIZE_TOO_LARGE";
      readonly option: "size" | "window";
      readonly value: string | number | bigint;
      readonly most: string;
    }
  | {
      readonly code: "NOT_A_TIME" | "NOT_A_NUMBER";
      readonly option: NumberOption;
      readonly value: string | number;
    };

/** Its message has the library's names; see {@link problemText} for others. */
export class OptionError extends UserError {
  constructor(readonly problem: OptionProblem) {
    super("ERR_USAGE", problemText(problem, libraryName), EXIT.USAGE);
  }
}

export function optionError(problem: OptionProblem): OptionError {
  return new OptionError(problem);
}

function libraryName(option: NumberOption): string {
  return option === "readerTimeout" || option === "writerTimeout" ? "openTimeout" : option;
}

/** @param name what the user calls an option */
export function problemText(
  problem: OptionProblem,
  name: (option: NumberOption) => string,
): string {
  switch (problem.code) {
    case "ENDPOINT_MISSING":
      return (
        "pipe=SINK is missing: name the pipe that the stream goes to, such as pipe=disk.fifo " +
        "(pipe=- is standard output), or a read=SOURCE"
      );
    case "ENDPOINT_TWICE":
      return "read= goes without pipe= and write=: a stream has one direction";
    case "ENDPOINT_MALFORMED":
      return `${key(problem.direction)}=${problem.endpoint}: ${problem.why}; ${problem.hint}`;
    case "ENDPOINT_IS_IMAGE": {
      const named = `${key(problem.direction)}=${problem.endpoint}`;
      return problem.direction === "write"
        ? `${named} is IMAGE itself: name a pipe, or another file for pipe=-`
        : `${named} and IMAGE are the same file: name another one`;
    }
    case "EXACT_WRITTEN":
      return "--exact goes with read=: clients cannot write past size=";
    case "IMAGE_STANDARD":
      return "IMAGE cannot be -: qemu-img needs a file, in which it can seek; ./- is one";
    case "EXPORT_NAME":
      return `-e takes a name of at most ${problem.most} bytes`;
    case "NOT_A_SIZE": {
      const text = typeof problem.value === "string";
      const remedy = text
        ? "write a whole number and a suffix, such as 512M or 10G"
        : "give a whole number of bytes";
      return `${problem.option}=${problem.value} is not a size: ${remedy}`;
    }
    case "SIZE_TOO_LARGE":
      return `${problem.option}=${problem.value} is too large: the most is ${problem.most}`;
    case "NOT_A_TIME":
      return `${name(problem.option)} ${problem.value} is no time: give a number of seconds, such as 30`;
    case "NOT_A_NUMBER":
      return `${name(problem.option)} ${problem.value} is no number of clients: give one from 1 on`;
  }
}

function key(direction: Direction): "pipe" | "read" {
  return direction === "write" ? "pipe" : "read";
}
