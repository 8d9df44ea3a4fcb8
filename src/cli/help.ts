/** `--help` */
import { type CommandDef, renderUsage } from "citty";
import { WITHOUT_VALUE } from "./check-options.ts";
import { PARAMETERS } from "./parameters.ts";

const EXAMPLES: Record<string, string> = {
  serve: [
    "  mkfifo disk.fifo",
    "  zstd < disk.fifo > disk.raw.zst &",
    "  nbd-streaming serve pipe=disk.fifo",
    "",
    "  In another terminal, or on the other end of an ssh tunnel:",
    "  qemu-img convert -n disk.qcow2 -O raw nbd://localhost",
    "",
    "  The way back:",
    "  zstd -dc disk.raw.zst | nbd-streaming serve read=- size=10G",
  ].join("\n"),
  run: [
    "  mkfifo disk.fifo",
    "  zstd < disk.fifo > disk.raw.zst &",
    "  nbd-streaming run pipe=disk.fifo -- qemu-img convert -n disk.qcow2 -O raw '$nbd'",
    "",
    "  The same, with the size of the image as the size of the stream:",
    "  nbd-streaming run pipe=disk.fifo disk.qcow2",
    "",
    "  The way back:",
    "  nbd-streaming run read=exec:'zstd -dc disk.raw.zst' size=10G disk.qcow2",
  ].join("\n"),
  check: [
    "  Can this machine run it? With a stream of its own:",
    "  nbd-streaming check",
    "",
    "  Is somebody there to read the pipe?",
    "  nbd-streaming check pipe=disk.fifo",
    "",
    "  Does this command stream, and with which parameters? Nothing is written anywhere:",
    "  nbd-streaming check -- qemu-img convert -n -W disk.qcow2 -O raw '$nbd'",
  ].join("\n"),
};

const SYNOPSES: Record<string, string> = {
  serve: [
    "nbd-streaming serve pipe=SINK [size=SIZE] [OPTIONS]",
    "      nbd-streaming serve read=SOURCE [size=SIZE] [OPTIONS]",
  ].join("\n"),
  run: [
    "nbd-streaming run pipe=SINK|read=SOURCE [size=SIZE] [OPTIONS] -- COMMAND [ARGUMENT...]",
    "      nbd-streaming run pipe=SINK|read=SOURCE [size=SIZE] [OPTIONS] IMAGE",
  ].join("\n"),
  check: [
    "nbd-streaming check [--json]",
    "      nbd-streaming check pipe=SINK|read=SOURCE [size=SIZE] [window=SIZE] [--json]",
    "      nbd-streaming check [pipe=SINK] [size=SIZE] [--json] -- COMMAND [ARGUMENT...]",
  ].join("\n"),
};

const CAPTIVE = [
  "COMMAND as one word is a command line for the shell; several words are executed as they are.",
  "In them, and in the environment, these stand for the server:",
  "  $nbd, $uri   its NBD URI        $port         its TCP port",
  "  $unixsocket  its Unix socket    $exportname   the name of -e",
  "  $tls         off, on or require",
].join("\n");

const OPTIONS_OF_ALL = "  -V, --version  Print the version\n  -h, --help     Print this";

/** The text of `--help` for the program or, with a name, one command. */
export async function helpText(
  program: CommandDef,
  name: string | undefined,
  // citty's own type for a command with any options.
  command: CommandDef<any>,
): Promise<string> {
  const styled = await renderUsage(command, name === undefined ? undefined : program);
  const usage = Object.keys(WITHOUT_VALUE).reduce(
    // As long as what it replaces, so that the columns stay.
    (text, option) => text.replace(new RegExp(`--${option}=<(.*?)>`), `--${option}[=$1]`),
    Bun.stripANSI(styled).replaceAll(/ +$/gm, ""),
  );
  if (name === undefined) return `${usage}\n\nOPTIONS\n\n${OPTIONS_OF_ALL}\n`;
  const width = Math.max(...PARAMETERS.map(([form]) => form.length));
  const parameters = PARAMETERS.map(([form, text]) => `  ${form.padEnd(width)}  ${text}`);
  return [
    usage.replace(/^USAGE .*$/m, `USAGE ${SYNOPSES[name]}`).trimEnd(),
    `PARAMETERS\n\n${parameters.join("\n")}`,
    ...(name === "serve" ? [] : [CAPTIVE]),
    `EXAMPLE\n\n${EXAMPLES[name]}`,
    "",
  ].join("\n\n");
}
