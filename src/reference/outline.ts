/** The command line as data, from which the man page and the completions are made. */
import type { Value } from "./value.ts";

export interface Outline {
  readonly name: string;
  readonly version: string;
  /** One line. */
  readonly description: string;
  readonly commands: readonly Command[];
  /** The options of every command, which also work without a command. */
  readonly options: readonly Option[];
  /** Each form of each parameter. */
  readonly parameters: readonly Entry[];
  readonly keys: readonly Key[];
}

export interface Command {
  readonly name: string;
  readonly description: string;
  /** Each form of the command line, from the program's name on. */
  readonly synopses: readonly string[];
  readonly options: readonly Option[];
  readonly takes: {
    readonly parameters: boolean;
    /** Files as arguments. */
    readonly files: boolean;
    /** A command after `--`. */
    readonly command: boolean;
    /** One of these words as its argument. */
    readonly words: readonly string[];
  };
  /** Lines to type, indented by two; a line that ends with a colon explains the next ones. */
  readonly example: string | undefined;
}

export interface Option {
  /** With the dashes. */
  readonly long: string;
  /** With the dash. */
  readonly short: string | undefined;
  readonly description: string;
  /** Undefined for an option without a value. */
  readonly value: OptionValue | undefined;
}

export interface OptionValue extends Value {
  readonly hint: string;
  /** The value may be left out; if given, it is in the same word. */
  readonly optional: boolean;
}

/** A parameter. */
export interface Key {
  /** With the equals sign. */
  readonly key: string;
  readonly description: string;
  readonly value: Value;
}

/** A term and its meaning. */
export type Entry = readonly [term: string, text: string];

/** The text of the man page besides the options, with backquotes around what the user types. */
export interface Prose {
  readonly description: readonly string[];
  readonly variables: readonly Entry[];
  readonly statuses: readonly Entry[];
  readonly signals: readonly Entry[];
  readonly environment: readonly Entry[];
  readonly seeAlso: readonly string[];
}

/** The short and the long form of an option. */
export function spellings({ short, long }: Option): string[] {
  return short === undefined ? [long] : [short, long];
}
