/** Completions for bash(1), with and without the package bash-completion. */
import { type Command, type Outline, spellings } from "./outline.ts";
import type { Value } from "./value.ts";

/** The script to be sourced. */
export function bashCompletions(outline: Outline): string {
  return `# Completions of ${outline.name} ${outline.version} for bash, made by: ${outline.name} completions bash
# shellcheck shell=bash

_nbd_streaming() {
  local line=\${COMP_LINE:0:COMP_POINT} words=() word i
  # Bash takes words apart at = and : (COMP_WORDBREAKS). What has no blank between belongs together.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if ((i == 0)) || [[ $line == [[:space:]]* ]]; then
      line=\${line#"\${line%%[![:space:]]*}"}
      words+=("")
    fi
    [[ $line == "$word"* ]] || word=$line
    words[\${#words[@]} - 1]+=$word
    line=\${line#"$word"}
  done

  COMPREPLY=()
  local last=$((\${#words[@]} - 1))
  local current=\${words[last]} command=\${words[1]} options='' valued='' others='' paths='' captive=''
  if ((last == 1)); then
    _nbd_streaming_reply '' "$current" '${topWords(outline).join(" ")}' ''
    return
  fi
  case $command in
${outline.commands.map((command) => commandCase(outline, command)).join("\n")}
    *) return ;;
  esac

  local expected=''
  for ((i = 2; i < last; i++)); do
    if [[ \${words[i]} == -- ]]; then
      [[ -z $captive ]] || _nbd_streaming_captive
      return
    elif [[ -n $expected ]]; then
      expected=''
    elif [[ " $valued " == *" \${words[i]} "* ]]; then
      expected=\${words[i]}
    fi
  done

  if [[ -n $expected ]]; then
    _nbd_streaming_value "$command $expected" '' "$current"
  elif [[ $current == --*=* ]]; then
    _nbd_streaming_value "$command \${current%%=*}" "\${current%%=*}=" "\${current#*=}"
  elif [[ $current == -* ]]; then
    _nbd_streaming_reply '' "$current" "$options" ''
  elif [[ $current == *=* ]]; then
    _nbd_streaming_value "\${current%%=*}=" "\${current%%=*}=" "\${current#*=}"
  else
    _nbd_streaming_reply '' "$current" "$others" "$paths"
  fi
}

# What can be the value of the option or parameter $1, behind $2, if it begins with $3.
_nbd_streaming_value() {
  case $1 in
${valueCases(outline).join("\n")}
  esac
}

# Replies with the words of $3, and the paths if $4 is set, that begin with $2. $1 is in front of them.
_nbd_streaming_reply() {
  local found full i sign rest strip=''
  mapfile -t COMPREPLY < <(compgen -W "$3" -- "$2")
  if [[ -n $4 ]]; then
    # A word that is no path must not be quoted like one.
    ((\${#COMPREPLY[@]} > 0)) || compopt -o filenames 2>/dev/null
    mapfile -t found < <(if [[ $4 == folders ]]; then compgen -d -- "$2"; else compgen -f -- "$2"; fi)
    COMPREPLY+=("\${found[@]}")
  fi
  # Only what is behind the last = or : is replaced.
  for sign in = :; do
    [[ $COMP_WORDBREAKS == *"$sign"* && $1$2 == *"$sign"* ]] || continue
    rest=$1$2
    rest=\${rest##*"$sign"}
    full=$1$2
    full=\${full:0:\${#full} - \${#rest}}
    ((\${#full} <= \${#strip})) || strip=$full
  done
  for i in "\${!COMPREPLY[@]}"; do
    full=$1\${COMPREPLY[i]}
    COMPREPLY[i]=\${full#"$strip"}
  done
  if ((\${#COMPREPLY[@]} == 1)) && [[ \${COMPREPLY[0]} == *[=:] ]]; then
    compopt -o nospace 2>/dev/null
  fi
}

# Completes the command after -- as if it stood alone.
_nbd_streaming_captive() {
  local first=0
  while [[ \${COMP_WORDS[first]} != -- ]]; do ((first++)); done
  ((first++))
  if declare -F _comp_command_offset >/dev/null; then
    _comp_command_offset "$first"
  elif declare -F _command_offset >/dev/null; then
    _command_offset "$first"
  elif ((COMP_CWORD == first)); then
    mapfile -t COMPREPLY < <(compgen -c -- "\${COMP_WORDS[COMP_CWORD]}")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
  fi
}

complete -F _nbd_streaming ${outline.name}
`;
}

function topWords({ commands, options }: Outline): string[] {
  return [...commands.map(({ name }) => name), ...options.flatMap(spellings)];
}

function commandCase(outline: Outline, { name, options, takes }: Command): string {
  const all = [...options, ...outline.options].flatMap(spellings);
  const valued = options
    .filter(({ value }) => value !== undefined && !value.optional)
    .flatMap(spellings);
  const keys = takes.parameters ? outline.keys.map(({ key }) => key) : [];
  return [
    `    ${name})`,
    `      options='${all.join(" ")}'`,
    `      valued='${valued.join(" ")}'`,
    `      others='${[...keys, ...takes.words].join(" ")}'`,
    ...(takes.files ? ["      paths=all"] : []),
    ...(takes.command ? ["      captive=yes", `      options+=' --'`] : []),
    "      ;;",
  ].join("\n");
}

/** One case for each set of values, with all options and parameters that take it. */
function valueCases({ commands, keys }: Outline): string[] {
  const cases = new Map<string, string[]>();
  const add = (subject: string, value: Value) => {
    const { words, starts, paths = "" } = value;
    const known = [...words, ...starts].join(" ");
    if (known === "" && paths === "") return;
    const reply = `_nbd_streaming_reply "$2" "$3" '${known}' '${paths}'`;
    cases.set(reply, [...(cases.get(reply) ?? []), `'${subject}'`]);
  };
  for (const { name, options } of commands) {
    for (const option of options) {
      if (option.value === undefined) continue;
      for (const spelling of spellings(option)) add(`${name} ${spelling}`, option.value);
    }
  }
  for (const { key, value } of keys) add(key, value);
  return [...cases].map(
    ([reply, subjects]) => `    ${subjects.join(" | ")})\n      ${reply}\n      ;;`,
  );
}
