/** `--help` */
import { type CommandDef, renderUsage } from "citty";
import type { MayBeAlone } from "./options.ts";
import { PARAMETERS } from "./parameters.ts";
import { STATUSES, VARIABLES } from "./prose.ts";

/** The width at which tables are wrapped. */
const COLUMNS = 100;

/** The most common use. */
const FIRST_EXAMPLE = "  nbd-streaming run pipe=exec:'zstd -q -o disk.raw.zst' disk.qcow2";

/** Lines to type, indented by two; a line that ends with a colon explains the next ones. */
export const EXAMPLES: Record<string, string> = {
  serve: [
    "  mkfifo disk.fifo",
    "  zstd < disk.fifo > disk.raw.zst &",
    "  nbd-streaming serve pipe=disk.fifo",
    "",
    "  In another terminal, or at the other end of an ssh tunnel:",
    "  qemu-img convert -n disk.qcow2 -O raw nbd://localhost",
    "",
    "  The reverse:",
    "  zstd -dc disk.raw.zst | nbd-streaming serve read=- size=10G",
    "",
    "  Two disks; their clients go to nbd://localhost/vda and nbd://localhost/vdb:",
    "  nbd-streaming serve -e vda pipe=vda.fifo size=10G -e vdb pipe=vdb.fifo size=20G",
  ].join("\n"),
  run: [
    "  mkfifo disk.fifo",
    "  zstd < disk.fifo > disk.raw.zst &",
    "  nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'",
    "",
    "  The same, with the size of the image as size=:",
    "  nbd-streaming run pipe=disk.fifo disk.qcow2",
    "",
    "  With a command instead of the FIFO; the command is killed if the disk cannot be read to its end:",
    FIRST_EXAMPLE,
    "",
    "  The reverse:",
    "  nbd-streaming run read=exec:'zstd -dc disk.raw.zst' size=10G disk.qcow2",
    "",
    "  Two disks, for a program of yours; what stands before the first -e is for both:",
    "  nbd-streaming run pipe=exec:'zstd -q -o \"$NBD_STREAMING_EXPORT.raw.zst\"' \\",
    "    -e vda size=10G -e vdb size=20G -- backup-disks '$uri_vda' '$uri_vdb'",
  ].join("\n"),
  check: [
    "  Does it work on this machine? This tries a small stream:",
    "  nbd-streaming check",
    "",
    "  Does somebody read from the pipe?",
    "  nbd-streaming check pipe=disk.fifo",
    "",
    "  Can this command write to a stream, and with which parameters? Its data is thrown away, but what",
    "  only --hold can stream is in /var/tmp meanwhile, or in the folder that spool= names:",
    "  nbd-streaming check -- qemu-img convert -n -W disk.qcow2 -O raw '$nbd'",
  ].join("\n"),
  completions: [
    "  nbd-streaming completions bash > /etc/bash_completion.d/nbd-streaming",
    "  nbd-streaming completions zsh > /usr/local/share/zsh/site-functions/_nbd-streaming",
    "  nbd-streaming completions fish > ~/.config/fish/completions/nbd-streaming.fish",
  ].join("\n"),
  man: "  nbd-streaming man | man -l -",
};

/** The ways to write a command, a line each. */
export const SYNOPSES: Record<string, string> = {
  serve: [
    "nbd-streaming serve pipe=SINK [size=SIZE] [OPTIONS]",
    "      nbd-streaming serve read=SOURCE [size=SIZE] [OPTIONS]",
    "      nbd-streaming serve [OPTIONS] -e NAME pipe=SINK|read=SOURCE [size=SIZE] -e NAME ...",
  ].join("\n"),
  run: [
    "nbd-streaming run pipe=SINK|read=SOURCE [size=SIZE] [OPTIONS] -- COMMAND [ARGUMENT...]",
    "      nbd-streaming run pipe=SINK|read=SOURCE [size=SIZE] [OPTIONS] IMAGE",
    "      nbd-streaming run [OPTIONS] -e NAME pipe=SINK [size=SIZE] -e NAME ... -- COMMAND [ARGUMENT...]",
  ].join("\n"),
  check: [
    "nbd-streaming check [spool=DIR] [--json]",
    "      nbd-streaming check pipe=SINK|read=SOURCE [size=SIZE] [window=SIZE] [spool=DIR] [--json]",
    "      nbd-streaming check [pipe=SINK] [size=SIZE] [spool=DIR] [--json] -- COMMAND [ARGUMENT...]",
  ].join("\n"),
  completions: "nbd-streaming completions bash|zsh|fish",
  man: "nbd-streaming man",
};

const CAPTIVE = [
  "One word as COMMAND is a command line for the shell; several words are executed without a shell.",
  "These variables describe the server, in COMMAND and in its environment:",
  table(VARIABLES),
].join("\n");

/** Options that need no command. */
export const OPTIONS_OF_ALL = [
  ["-V", "--version", "Print the version"],
  ["-h", "--help", "Print the help of the program or, after a command, of that command"],
] as const;

/** The text of `--help` for the program or, with a name, one command. */
export async function helpText(
  program: CommandDef,
  name: string | undefined,
  // citty's own type for a command with any options.
  command: CommandDef<any>,
): Promise<string> {
  const styled = await renderUsage(command, name === undefined ? undefined : program);
  let usage = Bun.stripANSI(styled).replaceAll(/ +$/gm, "");
  for (const [option, { withoutValue }] of Object.entries<MayBeAlone>(command.args ?? {})) {
    if (withoutValue === undefined) continue;
    // As long as what it replaces, so that the columns stay.
    usage = usage.replace(new RegExp(`--${option}=<(.*?)>`), `--${option}[=$1]`);
  }
  if (name === undefined) {
    const options = OPTIONS_OF_ALL.map(
      ([short, long, text]) => [`${short}, ${long}`, text] as const,
    );
    return [
      usage,
      `EXAMPLE\n\n${FIRST_EXAMPLE}`,
      `OPTIONS\n\n${table(options)}`,
      `EXIT STATUS\n\n${table(STATUSES)}\n`,
    ].join("\n\n");
  }
  const synopsis = SYNOPSES[name] ?? `nbd-streaming ${name}`;
  return [
    usage.replace(/^USAGE .*$/m, () => `USAGE ${synopsis}`).trimEnd(),
    ...(synopsis.includes("pipe=") ? [`PARAMETERS\n\n${table(PARAMETERS)}`] : []),
    ...(synopsis.includes("COMMAND") ? [CAPTIVE] : []),
    `EXAMPLE\n\n${EXAMPLES[name]}`,
    "",
  ].join("\n\n");
}

/** Terms and what they mean, in two columns. */
function table(entries: readonly (readonly [term: string, text: string])[]): string {
  const width = Math.max(...entries.map(([term]) => term.length));
  const indent = " ".repeat(width + 4);
  return entries
    .map(([term, text]) => {
      const lines = wrapped(text, COLUMNS - indent.length);
      return `  ${term.padEnd(width)}  ${lines.join(`\n${indent}`)}`;
    })
    .join("\n");
}

/** Words in lines of at most `width` characters. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else {
      lines.push(word);
    }
  }
  return lines;
}
