/** The outline of the whole command line, from citty's definitions, and the documents that are made of it. */
import type { ArgDef, ArgsDef, BooleanArgDef, CommandDef, CommandMeta } from "citty";
import packageJson from "../../package.json" with { type: "json" };
import { FORMATS } from "../captive/qemu-img.ts";
import { CHECKSUM_ALGORITHMS } from "../endpoint/checksum.ts";
import { bashCompletions } from "../reference/bash.ts";
import { fishCompletions } from "../reference/fish.ts";
import { manPage } from "../reference/man-page.ts";
import type { Command, Key, Option, Outline } from "../reference/outline.ts";
import { valueOf } from "../reference/value.ts";
import { zshCompletions } from "../reference/zsh.ts";
import { EXAMPLES, OPTIONS_OF_ALL, SYNOPSES } from "./help.ts";
import type { MayBeAlone, MayBeOwn } from "./options.ts";
import { PARAMETERS } from "./parameters.ts";
import { PROSE } from "./prose.ts";

/** The completions for each shell. */
export const COMPLETIONS = {
  bash: bashCompletions,
  zsh: zshCompletions,
  fish: fishCompletions,
};

export function manual(outline: Outline): string {
  return manPage(outline, PROSE);
}

/** Every form of `pipe=` without its key. */
const ENDS = PARAMETERS.map(([form]) => form)
  .filter((form) => form.startsWith("pipe="))
  .map((form) => form.slice("pipe=".length))
  .join("|");

/** The values that a word in capitals in a hint can have. */
const MEANINGS = {
  ALG: CHECKSUM_ALGORITHMS.join("|"),
  FMT: FORMATS.join("|"),
  SINK: ENDS,
};

/** @param program the whole command line, whose subcommands are plain definitions */
export function outlineOf(program: CommandDef): Outline {
  const { name = "", description = "" } = program.meta as CommandMeta;
  // citty's own type for a command with any options.
  const commands = program.subCommands as Record<string, CommandDef<any>>;
  return {
    name,
    version: packageJson.version,
    description,
    commands: Object.entries(commands).map(([command, definition]) =>
      commandOutline(command, definition),
    ),
    options: OPTIONS_OF_ALL.map(([short, long, text]) => ({
      short,
      long,
      description: text,
      value: undefined,
      repeatable: false,
    })),
    parameters: PARAMETERS,
    keys: keys(),
  };
}

function commandOutline(name: string, definition: CommandDef<any>): Command {
  const args = (definition.args ?? {}) as ArgsDef;
  const synopses = (SYNOPSES[name] ?? `nbd-streaming ${name}`).split(/\n */);
  const text = synopses.join("\n");
  return {
    name,
    description: (definition.meta as CommandMeta).description ?? "",
    synopses,
    options: Object.entries(args).flatMap(([option, arg]) => optionOutlines(option, arg)),
    takes: {
      parameters: /\bpipe=/.test(text),
      files: /\bIMAGE\b/.test(text),
      command: / -- /.test(text),
      words: Object.values(args)
        .filter(({ type }) => type === "positional")
        .flatMap(({ valueHint = "" }) => valueOf(valueHint).words),
    },
    example: EXAMPLES[name],
  };
}

/** An option and, where it is described, its opposite. */
function optionOutlines(name: string, arg: ArgDef): Option[] {
  const { type, valueHint, description = "" } = arg;
  if (type === "positional") return [];
  const { alias: aliases = [], negativeDescription: opposite } = arg as BooleanArgDef;
  const [alias] = [aliases].flat();
  const hint = valueHint ?? "VALUE";
  const optional = (arg as MayBeAlone).withoutValue !== undefined;
  const option: Option = {
    long: `--${name}`,
    short: alias === undefined ? undefined : `-${alias}`,
    description,
    value: type === "boolean" ? undefined : { hint, optional, ...valueOf(hint, MEANINGS) },
    repeatable: (arg as MayBeOwn).own === true,
  };
  const opposed = optional ? `Turn --${name} off where it is the default` : opposite;
  if (opposed === undefined) return [option];
  const { repeatable } = option;
  return [
    option,
    { long: `--no-${name}`, short: undefined, description: opposed, value: undefined, repeatable },
  ];
}

/** Each parameter once, with the description of its first form. */
function keys(): Key[] {
  const byKey = Map.groupBy(PARAMETERS, ([form]) => form.slice(0, form.indexOf("=") + 1));
  return [...byKey].map(([key, forms]) => ({
    key,
    description: forms[0]?.[1] ?? "",
    value: valueOf(forms.map(([form]) => form.slice(key.length)).join("|"), MEANINGS),
  }));
}
