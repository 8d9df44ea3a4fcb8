/** The lists of docs/command-line.md, between the lines of that page that name them. */
import {
  type Entry,
  listed,
  type Option,
  optionGroups,
  type Outline,
  type Prose,
  sentence,
} from "./outline.ts";

/** Characters in a line, as the formatter has them. */
const WIDTH = 100;

/** What a page can have between `<!-- reference: NAME -->` and `<!-- end -->`, by NAME. */
const LISTS: Readonly<Record<string, (outline: Outline, prose: Prose) => string>> = {
  synopsis: ({ commands }) =>
    ["```", ...commands.flatMap(({ synopses }) => synopses), "```"].join("\n"),
  commands: ({ commands }) =>
    list(commands.map(({ name, description }) => [name, sentence(description)])),
  parameters: ({ parameters }, { details }) =>
    list(parameters.map(([form, text]) => [form, joined(sentence(text), details[form])])),
  options: (outline, { details }) =>
    optionGroups(outline)
      .map(
        ({ commands, options }) =>
          `### ${groupTitle(commands)}\n\n` +
          list(
            options.map((option) => [
              optionTerm(option),
              joined(sentence(option.description), details[option.long]),
            ]),
          ),
      )
      .join("\n\n"),
  variables: (_, { variables }) => list(variables),
  statuses: (_, { statuses }) => list(statuses),
  signals: (_, { signals }) => list(signals),
  environment: (_, { environment }) => list(environment),
};

/**
 * Renews the lists of a page, and leaves the rest of it as it is.
 *
 * @throws Error for a list that is not known
 */
export function renewed(page: string, outline: Outline, prose: Prose): string {
  return page.replaceAll(/^<!-- reference: (\w+) -->$[^]*?^<!-- end -->$/gm, (_, name: string) => {
    const made = LISTS[name];
    if (made === undefined) throw new Error(`there is no list ${name}`);
    return `<!-- reference: ${name} -->\n\n${made(outline, prose)}\n\n<!-- end -->`;
  });
}

function groupTitle(commands: readonly string[]): string {
  if (commands.length === 0) return "All commands";
  return `${listed(commands.map((name) => `\`${name}\``))}${commands.length === 1 ? " only" : ""}`;
}

function optionTerm({ short, long, value }: Option): string {
  const hint = value === undefined ? "" : `=${value.hint}`;
  const term = value?.optional === true ? `${long}[${hint}]` : `${long}${hint}`;
  return short === undefined ? term : `${short}, ${term}`;
}

/** A description, and what is to be said beyond it. */
function joined(text: string, detail: string | undefined): string {
  return detail === undefined ? text : `${text} ${detail}`;
}

function list(entries: readonly Entry[]): string {
  return entries.map(([term, text]) => wrapped(`- \`${term}\`: ${text}`)).join("\n");
}

/** Words in lines, the second and later ones indented; what is between backquotes stays whole. */
function wrapped(text: string): string {
  const lines = [""];
  for (const word of text.match(/(?:`[^`]*`|[^\s`])+/g) ?? []) {
    const line = lines.at(-1) as string;
    if (line === "") lines[0] = word;
    else if (line.length + 1 + word.length <= WIDTH) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(`  ${word}`);
  }
  return lines.join("\n");
}
