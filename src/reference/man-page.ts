/** The man page: man(7) and, for its sections, man-pages(7). */
import {
  type Command,
  type Entry,
  groupTitle,
  type Option,
  optionGroups,
  type Outline,
  type Prose,
  sentence,
} from "./outline.ts";
import { bold, entry, escaped, italic, marked, typed, verbatim } from "./roff.ts";

/** The page in section 1, as roff. */
export function manPage(outline: Outline, prose: Prose): string {
  const { name, version, commands, parameters } = outline;
  const lines = [
    `.\\" Made by: ${name} man. Do not edit: bun run reference`,
    `.TH ${escaped(name.toUpperCase())} 1 "" "${escaped(`${name} ${version}`)}" "User Commands"`,
    // Not justified and not hyphenated: long words such as URIs would leave gaps, and must stay whole.
    ".ad l",
    ".nh",
    ".SH NAME",
    `${escaped(name)} \\- ${escaped(lowered(outline.description))}`,
    ".SH SYNOPSIS",
    ...commands
      .flatMap(({ synopses }) => synopses.flatMap((line) => [typed(line), ".br"]))
      .slice(0, -1),
    ".SH DESCRIPTION",
    ...prose.description.flatMap((text) => [".PP", marked(text)]).slice(1),
    ".SH COMMANDS",
    ...commands.flatMap(({ name: command, description }) =>
      entry(bold(command), escaped(sentence(description))),
    ),
    ".SH PARAMETERS",
    ...parameters.flatMap(([form, text]) => entry(typed(form), described(form, text))),
    ".SH OPTIONS",
    ...optionGroups(outline).flatMap(({ commands: names, options }) => [
      `.SS ${escaped(`Of ${groupTitle(names)}`)}`,
      ...options.flatMap((option) =>
        entry(optionTerm(option), described(option.long, option.description)),
      ),
    ]),
    '.SH "CAPTIVE COMMAND"',
    marked(
      "These variables describe the server, in the command that follows `--` and in its environment:",
    ),
    ...entries(prose.variables),
    '.SH "EXIT STATUS"',
    ...entries(prose.statuses),
    ".SH SIGNALS",
    ...entries(prose.signals),
    ".SH ENVIRONMENT",
    ...entries(prose.environment),
    ".SH EXAMPLES",
    ...commands.flatMap(exampleLines),
    '.SH "SEE ALSO"',
    prose.seeAlso.map(reference).join(",\n"),
  ];
  return `${lines.join("\n")}\n`;

  /** @param term a key of the details */
  function described(term: string, text: string): string {
    const detail = prose.details[term];
    return escaped(sentence(text)) + (detail === undefined ? "" : ` ${marked(detail)}`);
  }
}

function optionTerm({ short, long, value }: Option): string {
  const names = [...(short === undefined ? [] : [bold(short)]), bold(long)].join(", ");
  const hint = value === undefined ? "" : `=${italic(value.hint)}`;
  return names + (value?.optional === true ? `[${hint}]` : hint);
}

function entries(list: readonly Entry[]): string[] {
  return list.flatMap(([term, text]) => entry(bold(term), marked(text)));
}

function exampleLines({ name, example }: Command): string[] {
  if (example === undefined) return [];
  const blocks = example.split("\n\n").flatMap((block) => {
    const lines = block.split("\n").map((line) => line.replace(/^ {2}/, ""));
    const [first = "", ...rest] = lines;
    return first.endsWith(":") ? [".PP", escaped(first), ...verbatim(rest)] : verbatim(lines);
  });
  // A heading begins a paragraph.
  return [`.SS ${escaped(name)}`, ...blocks.slice(1)];
}

/** @param page such as `nbdkit(1)` */
function reference(page: string): string {
  const [, name = page, number = ""] = /^(.*)(\([^)]*\))$/.exec(page) ?? [];
  return `${bold(name)}${number}`;
}

function lowered(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
