/** The captive command, and the variables that describe the server to it. */
import { existsSync } from "node:fs";
import { EXIT, UserError } from "../errors.ts";
import { type Address, nbdUri } from "../net/address.ts";
import { requiredCertificates, type Security } from "../tls/certificates.ts";

/** The values of `$name` in the command and in its environment. */
export type Variables = Readonly<Record<string, string>> & { readonly uri: string };

/**
 * The variables that describe a server. With one export, `uri` and `nbd` name it; with several, they name
 * the server. Those of an export have its name behind them: `uri_vda`.
 *
 * @param names of the exports; an empty one is any
 */
export function captiveVariables(
  address: Address,
  names: readonly string[],
  security: Security = { policy: "off" },
): Variables {
  const uriOf = (name: string) => nbdUri(address, name, requiredCertificates(security));
  const [only = "", ...others] = names;
  const exportName = others.length === 0 ? only : "";
  const uri = uriOf(exportName);
  const each = names.filter((name) => SHELL_WORD.test(name));
  return {
    nbd: uri,
    uri,
    unixsocket: address.kind === "unix" ? address.path : "",
    port: address.kind === "tcp" ? String(address.port) : "",
    exportname: exportName,
    tls: security.policy,
    ...Object.fromEntries(
      each.flatMap((name) => ["uri", "nbd"].map((kind) => [`${kind}_${name}`, uriOf(name)])),
    ),
  };
}

/** What may be a part of a variable's name. */
const SHELL_WORD = /^[A-Za-z0-9_]+$/;

const NAME = "nbd|uri|unixsocket|port|exportname|tls|(?:nbd|uri)_[A-Za-z0-9_]+";
const REFERENCE = new RegExp(`\\$(?:(${NAME})(?![A-Za-z0-9_])|\\{(${NAME})\\})`, "g");

/** The names of the variables that a word of the command contains. */
export function referencesOf(word: string): string[] {
  return [...word.matchAll(REFERENCE)].map(([, bare, braced]) => bare ?? (braced as string));
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
