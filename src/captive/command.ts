/** The captive command, and the variables that describe the server to it. */
import { existsSync } from "node:fs";
import { EXIT, UserError } from "../errors.ts";
import { optionError } from "../messages/notice-error.ts";
import { isVariablePart } from "../messages/vocabulary.ts";
import { type Address, nbdUri } from "../net/address.ts";
import { requiredCertificates, type Security } from "../tls/certificates.ts";

/** The values of `$name` in the command and in its environment. */
export type Variables = Readonly<Record<string, string>> & { readonly uri: string };

/** An export as the command finds it. */
export interface CaptiveExport {
  /** An empty one is any. */
  readonly name: string;
  /** The path of its disk as a file, if it has one. */
  readonly spool?: string | undefined;
}

/**
 * The variables that describe a server. With one export, `uri`, `nbd` and `spool` are its own; with several,
 * `uri` and `nbd` name the server. Those of an export have its name behind them: `uri_vda`.
 */
export function captiveVariables(
  address: Address,
  exports: readonly CaptiveExport[],
  security: Security = { policy: "off" },
): Variables {
  const names = exports.map(({ name }) => name);
  const uriOf = (name: string) => nbdUri(address, name, requiredCertificates(security));
  const [only = "", ...others] = names;
  const exportName = others.length === 0 ? only : "";
  const uri = uriOf(exportName);
  const each = exports.filter(({ name }) => isVariablePart(name));
  // Without a file, a variable of the user's may have the name.
  const spools = each.map(({ name, spool }) => [`spool_${name}`, spool]);
  if (exports.length === 1) spools.push(["spool", exports[0]?.spool]);
  return {
    nbd: uri,
    uri,
    unixsocket: address.kind === "unix" ? address.path : "",
    port: address.kind === "tcp" ? String(address.port) : "",
    exportname: exportName,
    tls: security.policy,
    ...Object.fromEntries(
      each.flatMap(({ name }) => ["uri", "nbd"].map((kind) => [`${kind}_${name}`, uriOf(name)])),
    ),
    ...Object.fromEntries(spools.filter(([, path]) => path !== undefined)),
  };
}

const NAME = "nbd|uri|spool|unixsocket|port|exportname|tls|(?:nbd|uri|spool)_[A-Za-z0-9_]+";
const REFERENCE = new RegExp(`\\$(?:(${NAME})(?![A-Za-z0-9_])|\\{(${NAME})\\})`, "g");

/** The names of the variables that a word of the command contains. */
export function referencesOf(word: string): string[] {
  return [...word.matchAll(REFERENCE)].map(([, bare, braced]) => bare ?? (braced as string));
}

/**
 * The variables of the server's that a command takes for the path of a disk: `spool` and `spool_NAME`. What a text
 * for a shell sets itself, or has from the environment, is none.
 */
export function spoolsOf(command: CaptiveCommand): string[] {
  const words = typeof command === "string" ? [command] : command;
  const found = words.flatMap((word) => {
    const isText = typeof command === "string" || /\s/.test(word);
    const variables = referencesOf(word).filter((name) => /^spool(_|$)/.test(name));
    if (!isText) return variables;
    return variables.filter((name) => process.env[name] === undefined && !isSet(name, word));
  });
  return [...new Set(found)];
}

/** True when a text for a shell gives a variable a value: by an assignment, `for` or `read`. */
function isSet(name: string, text: string): boolean {
  return new RegExp(`(^|[\\s;&|({])(${name}=|(for|read)\\s([^;\\n]*\\s)?${name}\\b)`).test(text);
}

/** True when a word that is no text for a shell has a variable. */
function isTold(variable: string, command: CaptiveCommand): boolean {
  if (typeof command === "string") return false;
  return command.some((word) => !/\s/.test(word) && referencesOf(word).includes(variable));
}

/** What is to be known of a stream to tell whether a command finds its disk as a file. */
interface MayHold {
  readonly exportName?: string | undefined;
  readonly hold?: boolean | undefined;
}

/** Refuses a command that wants to write into the disk of a stream that is not held. @throws UserError ERR_USAGE */
export function requireHeld(command: CaptiveCommand, streams: readonly MayHold[]): void {
  for (const variable of spoolsOf(command)) {
    const [, name] = /^spool_(.*)$/.exec(variable) ?? [];
    if (name === undefined && streams.length > 1) throw optionError({ code: "SPOOL_OF_SEVERAL" });
    const stream = streams.find((one) => name === undefined || one.exportName === name);
    // A text for a shell may have such a variable from elsewhere.
    if (stream === undefined && !isTold(variable, command)) continue;
    if (stream === undefined) throw optionError({ code: "SPOOL_OF_NONE", variable });
    if (stream.hold !== true) throw optionError({ code: "SPOOL_NOT_HELD", variable });
  }
}

/** A command line for the shell, or words that are executed without one. */
export type CaptiveCommand = string | readonly string[];

/** A single word is a line for the shell, as for nbdkit's `--run`. */
export function commandOf(words: readonly string[]): CaptiveCommand {
  return words.length === 1 ? (words[0] as string) : words;
}

/**
 * The words to execute. A shell finds the variables in its environment; in words `$name` and
 * `${name}` are replaced.
 */
export function captiveWords(command: CaptiveCommand, variables: Variables): string[] {
  if (typeof command === "string") return ["/bin/sh", "-c", command];
  return command.map((word) =>
    word.replace(REFERENCE, (reference, bare?: string, braced?: string) => {
      return variables[bare ?? (braced as string)] ?? reference;
    }),
  );
}

/** True for a word that the shell leaves unchanged without quotes. */
export function isPlainWord(word: string): boolean {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word);
}

/** @throws UserError ERR_COMMAND when the program does not exist or must not be executed */
export function requireExecutable(command: CaptiveCommand): void {
  // The shell's own commands are no files.
  if (typeof command === "string") return;
  const [program = ""] = command;
  if (referencesOf(program).length > 0 || Bun.which(program) !== null) return;
  const missing = !program.includes("/") || !existsSync(program);
  throw notExecutable(program, missing ? undefined : "it may not be executed");
}

/** @param why undefined when there is no such command */
export function notExecutable(program: string, why: string | undefined): UserError {
  return new UserError(
    "ERR_COMMAND",
    why === undefined
      ? `cannot run ${program}: there is no such command; install it or check its name`
      : `cannot run ${program}: ${why}; make it executable (chmod +x)`,
    why === undefined ? EXIT.NOT_FOUND : EXIT.NOT_EXECUTABLE,
  );
}
