/** The man page: man(7) and, for its sections, man-pages(7). */
import type { Command, Entry, Option, Outline, Prose } from "../reference/outline.ts";
import {
  bold,
  entry,
  escaped,
  italic,
  marked,
  paragraph,
  section,
  subsection,
  typed,
  verbatim,
} from "./roff.ts";

/** The page in section 1, as roff. */
export function manPage(outline: Outline, prose: Prose): string {
  const { name, version, commands, parameters } = outline;
  const lines = [
    `.\\" Made by: ${name} man. Do not edit: bun run man`,
    `.TH ${escaped(name.toUpperCase())} 1 "" "${escaped(`${name} ${version}`)}" "User Commands"`,
    // Not justified and not hyphenated: long words such as URIs would leave gaps, and must stay whole.
    ".ad l",
    ".nh",
    ...section("NAME"),
    `${escaped(name)} \\- ${escaped(lowered(outline.description))}`,
    ...section("SYNOPSIS"),
    ...commands
      .flatMap(({ synopses }) => synopses.flatMap((line) => [typed(line), ".br"]))
      .slice(0, -1),
    ...section("DESCRIPTION"),
    ...prose.description.flatMap((text) => paragraph(marked(text))).slice(1),
    ...section("COMMANDS"),
    ...commands.flatMap((command) => commandEntry(command)),
    ...section("PARAMETERS"),
    ...parameters.flatMap(([form, text]) => entry(typed(form), escaped(sentence(text)))),
    ...section("OPTIONS"),
    ...optionGroups(outline).flatMap(([title, options]) => [
      ...subsection(escaped(title)),
      ...options.flatMap(optionEntry),
    ]),
    ...section('"CAPTIVE COMMAND"'),
    marked("In the command that follows `--`, and in its environment, these stand for the server:"),
    ...entries(prose.variables),
    ...section('"EXIT STATUS"'),
    ...entries(prose.statuses),
    ...section("SIGNALS"),
    ...entries(prose.signals),
    ...section("ENVIRONMENT"),
    ...entries(prose.environment),
    ...section("EXAMPLES"),
    ...commands.flatMap(exampleLines),
    ...section('"SEE ALSO"'),
    prose.seeAlso.map(reference).join(",\n"),
  ];
  return `${lines.join("\n")}\n`;
}

function commandEntry({ name, description }: Command): string[] {
  return entry(bold(name), escaped(sentence(description)));
}

function optionEntry({ short, long, value, description }: Option): string[] {
  const names = [...(short === undefined ? [] : [bold(short)]), bold(long)].join(", ");
  const hint = value === undefined ? "" : `=${italic(value.hint)}`;
  return entry(
    names + (value?.optional === true ? `[${hint}]` : hint),
    escaped(sentence(description)),
  );
}

function entries(list: readonly Entry[]): string[] {
  return list.flatMap(([term, text]) => entry(bold(term), marked(text)));
}

/** Options grouped by the commands that have them, those of most commands first. */
function optionGroups({ commands, options }: Outline): [title: string, options: Option[]][] {
  const owners = new Map<string, { commands: string[]; option: Option }>();
  for (const { name, options: own } of commands) {
    for (const option of own) {
      const known = owners.get(option.long);
      if (known === undefined) owners.set(option.long, { commands: [name], option });
      else known.commands.push(name);
    }
  }
  const groups = new Map<string, Option[]>();
  const sorted = [...owners.values()].toSorted((a, b) => b.commands.length - a.commands.length);
  for (const { commands: names, option } of sorted) {
    const title = `Of ${listed(names)}`;
    groups.set(title, [...(groups.get(title) ?? []), option]);
  }
  return [...groups, ["Of all commands", [...options]]];
}

function listed(names: readonly string[]): string {
  return names.length === 1
    ? `${names[0]} only`
    : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Blocks of lines to type, each with its explanation above, if any. */
function exampleLines({ name, example }: Command): string[] {
  if (example === undefined) return [];
  const blocks = example.split("\n\n").flatMap((block) => {
    const lines = block.split("\n").map((line) => line.replace(/^ {2}/, ""));
    const [first = "", ...rest] = lines;
    return first.endsWith(":")
      ? [...paragraph(escaped(first)), ...verbatim(rest)]
      : verbatim(lines);
  });
  // A heading is a paragraph already.
  return [...subsection(escaped(name)), ...blocks.slice(1)];
}

/** @param page such as `nbdkit(1)` */
function reference(page: string): string {
  const [, name = page, number = ""] = /^(.*)(\([^)]*\))$/.exec(page) ?? [];
  return `${bold(name)}${number}`;
}

function sentence(text: string): string {
  const capital = text.slice(0, 1).toUpperCase() + text.slice(1);
  return /^[a-z-]+=/.test(text) ? `${text}.` : `${capital}.`;
}

function lowered(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
