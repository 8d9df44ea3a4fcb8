/** What citty leaves unchecked about the options. */
import type { ArgsDef } from "citty";
import { usageError } from "../errors.ts";
import { quotesHint } from "./hints.ts";

/** Options that may go without a value, and what then stands for it; they may be switched off. */
export const WITHOUT_VALUE: Readonly<Record<string, string>> = { progress: "on" };

/**
 * Refuses what citty accepts silently: flags that are not defined, and flags without their value.
 *
 * @param raw the words of the command line
 * @returns the words for citty, which does not know of options that may go without a value
 * @throws UserError ERR_USAGE
 */
export function checkOptions(raw: readonly string[], defined: ArgsDef): string[] {
  const kinds = new Map<string, string | undefined>();
  for (const [name, { type, alias }] of Object.entries(defined) as [string, OptionDef][]) {
    if (type === "positional") continue;
    for (const known of [name, ...[alias ?? []].flat()]) kinds.set(known, type);
  }
  const words = [...raw];
  for (let i = 0; i < raw.length; i++) {
    const word = raw[i] as string;
    if (!word.startsWith("-") || word === "-") continue;
    const bare = word.startsWith("--") ? word.slice(2) : "";
    if (kinds.has(bare) && Object.hasOwn(WITHOUT_VALUE, bare)) {
      words[i] = `${word}=${WITHOUT_VALUE[bare]}`;
    } else {
      i += checkWord(word, kinds, raw.slice(0, i), i === raw.length - 1);
    }
  }
  return words;
}

interface OptionDef {
  readonly type?: string;
  readonly alias?: string | string[];
}

/** @returns how many words that follow belong to this one */
function checkWord(
  word: string,
  kinds: Map<string, string | undefined>,
  before: readonly string[],
  last: boolean,
): number {
  const long = word.startsWith("--");
  const equals = word.indexOf("=");
  const name = long ? word.slice(2, equals < 0 ? undefined : equals) : word.slice(1, 2);
  const shown = long ? `--${name}` : `-${name}`;
  // Only what can be on can be switched off; citty makes `false` of any other option, too.
  const opposite = name.startsWith("no-") ? name.slice(3) : "";
  const switched =
    kinds.get(opposite) === "boolean" ||
    (kinds.has(opposite) && Object.hasOwn(WITHOUT_VALUE, opposite));
  const kind = switched ? "boolean" : kinds.get(name);
  const [, parameter] = /^--?(pipe|write|read|size|window)(=|$)/.exec(word) ?? [];
  if (parameter !== undefined) {
    throw usageError(
      `${parameter}= is a parameter, not an option: write ${parameter}=… without dashes`,
    );
  }
  if (name === "run") throw usageError("--run is nbdkit's: here a command comes after --");
  if (kind === undefined || long !== name.length > 1) {
    throw usageError(`unknown option ${shown}: see --help${quotesHint(before)}`);
  }
  const attached = long ? equals >= 0 : word.length > 2;
  if (kind === "boolean") {
    if (attached) throw usageError(`${shown} takes no value`);
    return 0;
  }
  if (!attached && last) throw usageError(`${shown} needs a value`);
  return attached ? 0 : 1;
}
