/** Completions for fish(1). */
import type { Command, Option, OptionValue, Outline } from "./outline.ts";
import type { Value } from "./value.ts";

/** The script, for fish's completions folder or to be sourced. */
export function fishCompletions(outline: Outline): string {
  const { name, version, commands, options } = outline;
  const names = commands.map((command) => command.name).join(" ");
  const keyed = commands.filter(({ takes }) => takes.parameters);
  const captive = commands.filter(({ takes }) => takes.command);
  const lines = [
    ...commands.map((command) =>
      complete(`-n '__nbd_streaming_before ${names}' -a ${command.name}`, command.description),
    ),
    ...options.map((option) =>
      complete(`-n 'not __nbd_streaming_dashes' ${flags(option)}`, option.description),
    ),
    ...commands.flatMap((command) =>
      command.options.map((option) =>
        complete(`${within(command)} ${flags(option)}`, option.description),
      ),
    ),
    ...commands.flatMap((command) => argumentLines(command)),
    ...keyed.map((command) => `${within(command)} -a '(__nbd_streaming_parameters)'`),
    ...captive.map(
      (command) => `-n '__nbd_streaming_dashes ${command.name}' -a '(__nbd_streaming_captive)'`,
    ),
  ];
  return `# Completions of ${name} ${version} for fish, made by: ${name} completions fish

# No word so far is one of these.
function __nbd_streaming_before
    set -l words (commandline -opc)
    for name in $argv
        contains -- $name $words; and return 1
    end
    return 0
end

# The command is $argv, if that is given, and -- has been there.
function __nbd_streaming_dashes
    set -l words (commandline -opc)
    test (count $argv) -eq 0; or test "$words[2]" = "$argv[1]"; or return 1
    contains -- -- $words
end

# The command is $argv, and -- has not been there.
function __nbd_streaming_within
    set -l words (commandline -opc)
    test "$words[2]" = "$argv[1]"; and not contains -- -- $words
end

function __nbd_streaming_parameters
    set -l word (commandline -ct)
    switch $word
${outline.keys.flatMap(({ key, value }) => valueCase(key, value)).join("\n")}
        case '*'
            printf '%s\\t%s\\n' ${outline.keys.map(({ key, description }) => `${key} ${quoted(description)}`).join(" ")}
    end
end

# Completes the command after -- as if it stood alone.
function __nbd_streaming_captive
    set -l words (commandline -opc)
    set -e words[1..(contains -i -- -- $words)]
    complete -C (string join -- ' ' (string escape -- $words) (commandline -ct))
end

complete -c ${name} -f
${lines.map((line) => `complete -c ${name} ${line}`).join("\n")}
`;
}

function complete(rest: string, description: string): string {
  return `${rest} -d ${quoted(description)}`;
}

function within({ name }: Command): string {
  return `-n '__nbd_streaming_within ${name}'`;
}

function flags({ short, long, value }: Option): string {
  const names = [...(short === undefined ? [] : [`-s ${short.slice(1)}`]), `-l ${long.slice(2)}`];
  return [...names, ...(value === undefined ? [] : [argument(value)])].join(" ");
}

function argument({ words, starts, paths, optional }: OptionValue): string {
  const known = [...words, ...starts].join(" ");
  const listed = known === "" ? "" : ` -a '${known}'`;
  if (optional) return listed.trim();
  if (paths === "all") return `-r -F${listed}`;
  if (paths === "folders") return `-x -a '(__fish_complete_directories)'`;
  return `-x${listed}`;
}

function argumentLines(command: Command): string[] {
  const { files, words } = command.takes;
  return [
    ...(files ? [`${within(command)} -F`] : []),
    ...(words.length > 0 ? [`${within(command)} -a '${words.join(" ")}'`] : []),
  ];
}

function valueCase(key: string, { words, starts, paths }: Value): string[] {
  const known = [...words, ...starts].map((word) => key + word);
  return [
    `        case '${key}*'`,
    ...(known.length === 0 ? [] : [`            printf '%s\\n' ${known.join(" ")}`]),
    ...(paths === undefined
      ? []
      : [
          `            for path in (__fish_complete_path (string sub -s ${key.length + 1} -- $word))`,
          `                printf '%s%s\\n' ${key} $path`,
          "            end",
        ]),
  ];
}

/** A word in single quotes, in which fish has two escapes. */
function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
