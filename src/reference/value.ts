/** The possible values of an option or a parameter, for completions. */
export interface Value {
  /** Complete values. */
  readonly words: readonly string[];
  /** Prefixes of values, such as `tcp:`. */
  readonly starts: readonly string[];
  /** Which paths are values; undefined if none is. */
  readonly paths: "all" | "folders" | undefined;
}

/** The placeholders for paths. */
const PATHS: Record<string, Value["paths"]> = { PATH: "all", FILE: "all", DIR: "folders" };

/**
 * Parses a hint of `--help`: alternatives separated by `|`, each a word, a PLACEHOLDER or a word
 * followed by a placeholder, with `[…]` around optional parts.
 *
 * @param meanings the hints that placeholders stand for; any others have no known values
 */
export function valueOf(hint: string, meanings: Readonly<Record<string, string>> = {}): Value {
  const words: string[] = [];
  const starts: string[] = [];
  let paths: Value["paths"];
  for (const alternative of hint.replaceAll(/\[[^\]]*\]/g, "").split("|")) {
    const [, start = "", name] = /^([^A-Z]*)([A-Z]+)?/.exec(alternative) ?? [];
    if (name === undefined) words.push(start);
    else if (start !== "") starts.push(start);
    else if (Object.hasOwn(PATHS, name)) paths ??= PATHS[name];
    else if (Object.hasOwn(meanings, name)) {
      const meant = valueOf(meanings[name] as string, meanings);
      words.push(...meant.words);
      starts.push(...meant.starts);
      paths ??= meant.paths;
    }
  }
  return { words, starts, paths };
}
