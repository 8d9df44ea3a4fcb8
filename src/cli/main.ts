/** The command line, from argv to the exit status. */
import { type ArgsDef, type CommandDef, defineCommand, runCommand as runCitty } from "citty";
import packageJson from "../../package.json" with { type: "json" };
import { EXIT, messageOf, UserError, usageError } from "../errors.ts";
import { messageIn } from "../messages/notice-error.ts";
import { drainLineWriters } from "../process/line-writer.ts";
import { checkCommand } from "./check.ts";
import { completionsCommand, manCommand } from "./completions.ts";
import { helpText } from "./help.ts";
import { createLog } from "./log.ts";
import type { CliContext } from "./options.ts";
import { releaseEndpoints } from "./parameters.ts";
import { runCommand } from "./run.ts";
import { serveCommand } from "./serve.ts";
import { versionLine } from "./version.ts";
import { COMMAND_LINE } from "./vocabulary.ts";
import { checkOptions, commandHint, requireDashes, requireNoName, splitStreams } from "./words.ts";

// citty's own type for a command with any options.
const COMMANDS: Record<string, CommandDef<any>> = {
  serve: serveCommand,
  run: runCommand,
  check: checkCommand,
  completions: completionsCommand,
  man: manCommand,
};

/** For messages; it names the commands that most users want. */
const THERE_ARE = "there are serve, run and check, and others: see --help";

/** Milliseconds at the end in which stderr has to take the last lines. */
const DRAIN_LIMIT = 1000;

export const program = defineCommand({
  meta: {
    name: "nbd-streaming",
    version: packageJson.version,
    description: "Turn an NBD client's forward-only writes into a stream, or a stream into a disk",
  },
  subCommands: COMMANDS,
});

/**
 * Runs the program.
 *
 * @param argv the words after the program's name
 * @param workerUrl the stream thread's file
 * @returns the exit status
 */
export async function main(argv: readonly string[], workerUrl: URL): Promise<number> {
  try {
    return await dispatch(argv, workerUrl);
  } catch (error) {
    const log = createLog("normal");
    if (error instanceof UserError) {
      const { exitStatus } = error;
      const nothingBegan = exitStatus === EXIT.USAGE || exitStatus === EXIT.SETUP;
      if (nothingBegan && argv[0] !== "check") releaseEndpoints(ownWords(argv));
      log.error(messageIn(error, COMMAND_LINE));
      return error.exitStatus;
    }
    log.error(`internal error: ${messageOf(error)}; please report it with the output of -v`);
    if (argv.includes("-v") || argv.includes("--verbose")) log.raw(`${Bun.inspect(error)}\n`);
    return EXIT.INTERNAL;
  } finally {
    drainLineWriters(DRAIN_LIMIT);
  }
}

/** Everything before the first `--`. */
function ownWords(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--");
  return end < 0 ? argv : argv.slice(0, end);
}

async function dispatch(argv: readonly string[], workerUrl: URL): Promise<number> {
  // Everything after the first `--` is the captive command's, its `--help` and `-V` included.
  const own = ownWords(argv);
  const captive = own === argv ? undefined : argv.slice(own.length + 1);
  const [name, ...words] = own;
  const help = own.includes("--help") || own.includes("-h");
  if (own.includes("-V") || own.includes("--version")) {
    console.log(versionLine());
    return EXIT.COMPLETE;
  }
  if (name === undefined || name.startsWith("-")) {
    if (!help) throw usageError(`which command? ${THERE_ARE}`);
    console.log(await helpText(program, undefined, program));
    return EXIT.COMPLETE;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    throw usageError(commandHint(name) ?? `unknown command ${name}: ${THERE_ARE}`);
  }
  if (help) {
    console.log(await helpText(program, name, command));
    return EXIT.COMPLETE;
  }
  if (captive === undefined && (name === "run" || name === "check")) requireDashes(words);
  if (name === "check") requireNoName(words);
  const defined = (command.args ?? {}) as ArgsDef;
  const checked = checkOptions(words, defined);
  const several = "exportname" in defined ? splitStreams(checked, defined) : undefined;
  const outline = async () => (await import("./documents.ts")).outlineOf(program);
  const data: CliContext = { captive, workerUrl, streams: several?.streams, outline };
  const { result } = await runCitty(command, { rawArgs: several?.common ?? checked, data });
  return result as number;
}
