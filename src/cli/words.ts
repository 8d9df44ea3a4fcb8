/** Checks words that citty accepts silently, and hints at what was meant. */
import type { ArgsDef } from "citty";
import { referencesOf } from "../captive/command.ts";
import { usageError } from "../errors.ts";
import type { MayBeAlone, MayBeOwn, StreamWords } from "./options.ts";
import { KEYS } from "./parameters.ts";

/**
 * Refuses what citty accepts silently: flags that are not defined, and flags without their value.
 *
 * @param raw the words of the command line
 * @returns the words for citty, which does not know options whose value may be omitted
 * @throws UserError ERR_USAGE
 */
export function checkOptions(raw: readonly string[], defined: ArgsDef): string[] {
  const known = optionsBySpelling(defined);
  const words = [...raw];
  for (let i = 0; i < raw.length; i++) {
    const word = raw[i] as string;
    if (!word.startsWith("-") || word === "-") continue;
    const bare = word.startsWith("--") ? word.slice(2) : "";
    const { withoutValue } = known.get(bare) ?? {};
    if (withoutValue !== undefined) {
      words[i] = `${word}=${withoutValue}`;
    } else {
      i += checkWord(word, known, raw.slice(0, i), i === raw.length - 1);
    }
  }
  return words;
}

interface OptionDef extends MayBeAlone, MayBeOwn {
  /** Under which citty gives its value. */
  readonly name: string;
  readonly type?: string;
  readonly alias?: string | string[];
}

function optionsBySpelling(defined: ArgsDef): Map<string, OptionDef> {
  const known = new Map<string, OptionDef>();
  for (const [name, definition] of Object.entries(defined)) {
    const option = { ...definition, name } as OptionDef;
    if (option.type === "positional") continue;
    for (const spelling of [name, ...[option.alias ?? []].flat()]) known.set(spelling, option);
  }
  return known;
}

/**
 * Splits a command line with several `-e`, each of which begins a stream. Options that are no stream's own
 * may stand anywhere, once.
 *
 * @param words as {@link checkOptions} returns them
 * @returns the words for all streams, and those of each; undefined for a command line of one stream
 * @throws UserError ERR_USAGE
 */
export function splitStreams(
  words: readonly string[],
  defined: ArgsDef,
): { common: string[]; streams: StreamWords[] } | undefined {
  const known = optionsBySpelling(defined);
  const common: string[] = [];
  const streams: { name: string; words: string[] }[] = [];
  /** The options that all streams have in common, and the first of them that is repeated. */
  const seen = new Set<string>();
  let twice: string | undefined;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    const long = /^--(?:no-)?([^=]+)(?:=(.*))?$/s.exec(word);
    const short = long === null ? /^-(.)(.*)$/s.exec(word) : null;
    const option = known.get(long?.[1] ?? short?.[1] ?? "");
    let group = streams.at(-1)?.words ?? common;
    if (option !== undefined) {
      const attached = long === null ? short?.[2] || undefined : long[2];
      // `--no-progress` has no value, though the option has one.
      const isOff = word.startsWith("--no-");
      const takesNext = attached === undefined && option.type !== "boolean" && !isOff;
      const own = takesNext ? [word, words[++i] as string] : [word];
      if (option.name === "exportname") {
        streams.push({ name: attached ?? (own[1] as string), words: [] });
        continue;
      }
      if (option.own !== true) {
        if (seen.has(option.name)) twice ??= option.name;
        seen.add(option.name);
        group = common;
      }
      group.push(...own);
    } else {
      group.push(word);
    }
  }
  if (streams.length < 2) return undefined;
  if (twice !== undefined) {
    throw usageError(`--${twice} is given twice: it is for all streams, so give it once`);
  }
  return { common, streams };
}

/** @returns how many of the words that follow are its value */
function checkWord(
  word: string,
  known: ReadonlyMap<string, OptionDef>,
  before: readonly string[],
  last: boolean,
): number {
  const long = word.startsWith("--");
  const equals = word.indexOf("=");
  const name = long ? word.slice(2, equals < 0 ? undefined : equals) : word.slice(1, 2);
  const shown = long ? `--${name}` : `-${name}`;
  // Only these can be switched off; citty also takes `--no-` before any other option.
  const opposite = name.startsWith("no-") ? name.slice(3) : "";
  const { type, withoutValue } = known.get(opposite) ?? {};
  const switched = type === "boolean" || withoutValue !== undefined;
  const kind = switched ? "boolean" : known.get(name)?.type;
  const [, parameter = ""] = /^--?([a-z]+)(?:=|$)/.exec(word) ?? [];
  if (KEYS.has(parameter)) {
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

/** Clients that find the server only by their arguments, not by the environment. */
const CLIENTS = ["qemu-img", "qemu-io", "nbdcopy", "nbdinfo"];

/** Also matches one word that is a command line for the shell. */
const CLIENT = new RegExp(`^\\s*(${CLIENTS.join("|")})(\\s|$)`);

/** Options with which a client needs no server. */
const ABOUT_ITSELF = /(^|\s)(--version|--help|-h|-V)(\s|$)/;

/**
 * Refuses a client that cannot find a private socket: its `$nbd` was not in single quotes, so the shell
 * has replaced it with nothing.
 *
 * @param held there is also a file
 * @throws UserError ERR_USAGE
 */
export function requireReference(captive: readonly string[] | undefined, held = false): void {
  const [, client] = CLIENT.exec(captive?.[0] ?? "") ?? [];
  if (captive === undefined || client === undefined) return;
  // In a command line for the shell, any variable may hold it.
  const told =
    captive.length === 1
      ? captive[0]?.includes("$")
      : captive.some((word) => referencesOf(word).length > 0);
  if (told || captive.some((word) => ABOUT_ITSELF.test(word))) return;
  throw usageError(
    `${client} is not told where the server is: ` +
      `put $nbd${held ? ", $uri or $spool" : " or $uri"} among its words in single quotes, ` +
      "'$nbd', or the shell replaces it first",
  );
}

/**
 * Refuses a client that is to find a stream by a name that no stream has.
 *
 * @param names of the streams; undefined for a command that names none
 * @throws UserError ERR_USAGE
 */
export function requireNames(
  captive: readonly string[] | undefined,
  names: readonly string[] | undefined,
): void {
  // Other programs, such as sh(1), may have variables of their own by such a name.
  if (captive === undefined || captive.length === 1 || !CLIENT.test(captive[0] ?? "")) return;
  for (const variable of captive.flatMap(referencesOf)) {
    const [, name] = /^(?:nbd|uri)_(.*)$/.exec(variable) ?? [];
    if (name === undefined || names?.includes(name) === true) continue;
    const remedy = names === undefined ? "write $uri" : `add -e ${name}, or write another name`;
    throw usageError(
      `$${variable} is for a stream that is called ${name}, and there is none: ${remedy}`,
    );
  }
}

/** Refuses a name for what `check` looks at. @throws UserError ERR_USAGE */
export function requireNoName(words: readonly string[]): void {
  const word = words.find((one) => /^(-e|--exportname(=|$))/.test(one));
  if (word === undefined) return;
  throw usageError(
    "check takes one stream, without a name: leave out -e, and check several streams one by one",
  );
}

/** Refuses a command without `--` before it. @throws UserError ERR_USAGE */
export function requireDashes(words: readonly string[]): void {
  // A word after an option may be its value.
  const start = words.findIndex((word, i) => CLIENT.test(word) && !words[i - 1]?.startsWith("-"));
  if (start < 0) return;
  const command = (words[start] as string).trim().split(/\s/)[0];
  throw usageError(`a command comes after --: write -- in front of ${command}`);
}

/** A hint for an unexpected word after an `exec:` without quotes. @param words the words before it */
export function quotesHint(words: readonly string[]): string {
  const command = words.find((word) => /^(pipe|write|read)=exec:\S+$/.test(word));
  if (command === undefined) return "";
  const [, key, name] = /^(.*?)=exec:(.*)$/.exec(command) ?? [];
  return `; if it belongs to ${name}, write ${key}=exec:'${name} …', all of it in quotes`;
}

/** What the user may have meant by a command that does not exist. */
export function commandHint(name: string): string | undefined {
  if (/^(pipe|write|read)=/.test(name)) {
    return `the command is missing: write nbd-streaming run ${name}, or nbd-streaming serve ${name}`;
  }
  if (name === "streaming") {
    return "nbdkit's streaming is nbd-streaming serve here, or nbd-streaming run with a command after --";
  }
  return undefined;
}
