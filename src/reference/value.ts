/** What can be written as the value of an option or a parameter. */

export interface Value {
  /** Values as they are. */
  readonly words: readonly string[];
  /** Beginnings of values, such as `tcp:`. */
  readonly starts: readonly string[];
  /** Whether it can be a path. */
  readonly paths: "all" | "folders" | undefined;
}

/** Names in hints that stand for paths. */
const PATHS: Record<string, Value["paths"]> = { PATH: "all", FILE: "all", DIR: "folders" };

/**
 * Reads a hint as `--help` shows it: alternatives between `|`, each of which is a word, a NAME that
 * stands for something, or a word with a name behind it, and `[…]` around what can be left out.
 *
 * @param meanings hints that names stand for; of other names nothing is known
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
