/** Makes the lists of docs/command-line.md, between its lines that name them. */
import {
  capitalized,
  type Entry,
  groupTitle,
  type Option,
  optionGroups,
  type Outline,
  type Prose,
  sentence,
} from "./outline.ts";

/** Characters in a line, as `bun fmt` has them. */
const WIDTH = 100;

/** The contents between `<!-- reference: NAME -->` and `<!-- end -->`, by NAME. */
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
          `### ${capitalized(groupTitle(commands.map((name) => `\`${name}\``)))}\n\n` +
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

/** Renews the lists of a page. @throws Error for an unknown list */
export function renewed(page: string, outline: Outline, prose: Prose): string {
  return page.replaceAll(/^<!-- reference: (\w+) -->$[^]*?^<!-- end -->$/gm, (_, name: string) => {
    const made = LISTS[name];
    if (made === undefined) throw new Error(`there is no list ${name}`);
    return `<!-- reference: ${name} -->\n\n${made(outline, prose)}\n\n<!-- end -->`;
  });
}

function optionTerm({ short, long, value }: Option): string {
  const hint = value === undefined ? "" : `=${value.hint}`;
  const term = value?.optional === true ? `${long}[${hint}]` : `${long}${hint}`;
  return short === undefined ? term : `${short}, ${term}`;
}

function joined(text: string, detail: string | undefined): string {
  return detail === undefined ? text : `${text} ${detail}`;
}

function list(entries: readonly Entry[]): string {
  return entries.map(([term, text]) => wrapped(`- \`${term}\`: ${text}`)).join("\n");
}

/** Wraps words, indents the further lines, and keeps text between backquotes whole. */
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
