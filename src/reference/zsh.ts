/** Completions for zsh(1): zshcompsys(1). */
import { type Command, type Key, type Option, type Outline, spellings } from "./outline.ts";
import type { Value } from "./value.ts";

/** The script: a file `_NAME` in a folder of `fpath`, or to be sourced. */
export function zshCompletions(outline: Outline): string {
  const { name, version, commands, keys } = outline;
  return `#compdef ${name}
# Completions of ${name} ${version} for zsh, made by: ${name} completions zsh

_${name}() {
  local curcontext=$curcontext state state_descr line
  typeset -A opt_args
  # The command after -- is completed as if it stood alone.
  local -i dashes=\${words[(i)--]}
  if (( dashes < CURRENT )); then
    words[1,dashes]=()
    (( CURRENT -= dashes ))
    _normal
    return
  fi
  _arguments -C \\
${outline.options.map((option) => `    ${optionSpec(option, "- *")} \\`).join("\n")}
    '1:command:->command' \\
    '*::argument:->argument' && return
  case $state in
    command)
      local -a commands=(
${commands.map((command) => `        ${described(command.name, command.description)}`).join("\n")}
      )
      _describe -t commands command commands
      ;;
    argument)
      case $words[1] in
${commands.map((command) => commandCase(outline, command)).join("\n")}
      esac
      ;;
  esac
}

# A parameter, or a file if there is an argument.
_nbd_streaming_parameter() {
  local -i ret=1
${keys.map((key, index) => keyBranch(key, index)).join("\n")}
  else
    local -a parameters=(
${keys.map(({ key, description }) => `      ${described(key, description)}`).join("\n")}
    )
    _describe -t parameters parameter parameters -S '' && ret=0
    (( $# )) && _files && ret=0
  fi
  return ret
}

# Autoloaded from fpath, this file is the function's body.
if [[ $funcstack[1] == _${name} ]]; then
  _${name} "$@"
else
  compdef _${name} ${name}
fi
`;
}

function commandCase(outline: Outline, { name, options, takes }: Command): string {
  const specs = [
    ...options.map((option) => optionSpec(option)),
    ...outline.options.map((option) => optionSpec(option, "- *")),
    ...(takes.words.length > 0 ? [`'1:argument:(${takes.words.join(" ")})'`] : []),
    ...(takes.parameters
      ? [`'*:parameter:_nbd_streaming_parameter${takes.files ? " files" : ""}'`]
      : []),
  ];
  return [
    `        ${name})`,
    `          _arguments \\`,
    `            ${specs.join(" \\\n            ")}`,
    "          ;;",
  ].join("\n");
}

/** @param excluded options that cannot follow it; by default the option itself, if it cannot be repeated */
function optionSpec(option: Option, excluded = spellings(option).join(" ")): string {
  const { short, long, value, description, repeatable } = option;
  // In zsh, + and = mean that the value is attached or is the next word; =- that it is attached.
  const equals = value?.optional === true ? "=-" : "=";
  const names =
    value === undefined ? spellings(option) : [...(short ? [`${short}+`] : []), long + equals];
  const listed = names.length === 1 ? names[0] : `'{${names.join(",")}}'`;
  const text = `[${description.replaceAll(/[\\[\]]/g, "\\$&")}]`;
  const before = repeatable ? "*" : `(${excluded})`;
  return `'${before}${listed}${quotedInside(text)}${quotedInside(action(option))}'`;
}

function action({ value }: Option): string {
  if (value === undefined) return "";
  const words = [...value.words, ...value.starts].map((word) => word.replaceAll(":", "\\:"));
  const list = words.length > 0 ? `(${words.join(" ")})` : " ";
  const paths = { all: "_files", folders: "_files -/" };
  const colons = value.optional ? "::" : ":";
  return `${colons}${value.hint.replaceAll(":", "\\:")}:${value.paths === undefined ? list : paths[value.paths]}`;
}

function keyBranch({ key, value }: Key, index: number): string {
  const lines = candidates(value);
  return [
    `  ${index === 0 ? "if" : "elif"} compset -P ${key}; then`,
    ...(lines.length > 0 ? lines : [`_message -e values '${key.toUpperCase().slice(0, -1)}'`]).map(
      (line) => `    ${line}`,
    ),
  ].join("\n");
}

function candidates({ words, starts, paths }: Value): string[] {
  return [
    ...(words.length > 0 ? [`compadd -- ${words.join(" ")} && ret=0`] : []),
    ...(starts.length > 0 ? [`compadd -S '' -- ${starts.join(" ")} && ret=0`] : []),
    ...(paths === undefined ? [] : [`_files${paths === "folders" ? " -/" : ""} && ret=0`]),
  ];
}

/** An entry of _describe. */
function described(term: string, text: string): string {
  return `'${quotedInside(`${term.replaceAll(":", "\\:")}:${text}`)}'`;
}

/** Escapes text for single quotes. */
function quotedInside(text: string): string {
  return text.replaceAll("'", "'\\''");
}
