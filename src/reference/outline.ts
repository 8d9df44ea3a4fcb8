/** The command line as data: what the man page and the completions are made of. */
import type { Value } from "./value.ts";

export interface Outline {
  readonly name: string;
  readonly version: string;
  /** What it does, in one line. */
  readonly description: string;
  readonly commands: readonly Command[];
  /** Options that go with every command, and without one. */
  readonly options: readonly Option[];
  /** The parameters in the forms that they can have. */
  readonly parameters: readonly Entry[];
  readonly keys: readonly Key[];
}

export interface Command {
  readonly name: string;
  readonly description: string;
  /** Each way to write it, from the program's name on. */
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
  /** Lines to type, indented by two; one that ends with a colon tells what the next ones are. */
  readonly example: string | undefined;
}

export interface Option {
  /** With its dashes. */
  readonly long: string;
  /** With its dash. */
  readonly short: string | undefined;
  readonly description: string;
  /** Undefined for what takes none. */
  readonly value: OptionValue | undefined;
}

export interface OptionValue extends Value {
  readonly hint: string;
  /** It may be left out; if not, it is in the same word. */
  readonly optional: boolean;
}

/** A parameter without its value. */
export interface Key {
  /** With its equals sign. */
  readonly key: string;
  readonly description: string;
  readonly value: Value;
}

/** A term and what it means. */
export type Entry = readonly [term: string, text: string];

/** What the man page says beyond the options. In its texts, backquotes are around what is typed. */
export interface Prose {
  readonly description: readonly string[];
  readonly variables: readonly Entry[];
  readonly statuses: readonly Entry[];
  readonly signals: readonly Entry[];
  readonly environment: readonly Entry[];
  readonly seeAlso: readonly string[];
}

/** Every way to write an option. */
export function spellings({ short, long }: Option): string[] {
  return short === undefined ? [long] : [short, long];
}
