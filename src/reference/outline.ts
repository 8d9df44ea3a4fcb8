/** The command line as data: the reference pages and the completions are made of it. */
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
  /** It may be given more than once: each of several streams may have its own. */
  readonly repeatable: boolean;
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

/** The texts of the reference pages that `--help` does not have. Backquotes enclose what the user types. */
export interface Prose {
  readonly description: readonly string[];
  /** More sentences about a parameter or an option, by its form or its long name. */
  readonly details: Readonly<Record<string, string>>;
  readonly variables: readonly Entry[];
  readonly statuses: readonly Entry[];
  readonly signals: readonly Entry[];
  readonly environment: readonly Entry[];
  readonly seeAlso: readonly string[];
}

/** Options that the same commands have; with no commands, options of all. */
export interface OptionGroup {
  readonly commands: readonly string[];
  readonly options: readonly Option[];
}

/** The options by the commands that have them: those of most commands first. */
export function optionGroups({ commands, options }: Outline): OptionGroup[] {
  const owners = new Map<string, { names: string[]; option: Option }>();
  for (const { name, options: own } of commands) {
    for (const option of own) {
      const known = owners.get(option.long);
      if (known === undefined) owners.set(option.long, { names: [name], option });
      else known.names.push(name);
    }
  }
  const groups = new Map<string, { commands: string[]; options: Option[] }>();
  const sorted = [...owners.values()].toSorted((a, b) => b.names.length - a.names.length);
  for (const { names, option } of sorted) {
    const key = names.join();
    const group = groups.get(key) ?? { commands: names, options: [] };
    groups.set(key, { ...group, options: [...group.options, option] });
  }
  return [...groups.values(), { commands: [], options }];
}

/** The commands of a group, as part of a sentence. */
export function groupTitle(commands: readonly string[]): string {
  const [last = "all commands"] = commands.slice(-1);
  if (commands.length < 2) return commands.length === 0 ? last : `${last} only`;
  return `${commands.slice(0, -1).join(", ")} and ${last}`;
}

export function capitalized(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** A description as a sentence; one that begins with a parameter keeps its first letter. */
export function sentence(text: string): string {
  return `${/^[a-z-]+=/.test(text) ? text : capitalized(text)}.`;
}

/** Every way to write an option. */
export function spellings({ short, long }: Option): string[] {
  return short === undefined ? [long] : [short, long];
}
