/** The captive command: what is executed, and what it is told about the server. */
import { type Address, nbdUri } from "../server/address.ts";
import { requiredCertificates, type Security } from "../server/tls.ts";

/** What `$name` stands for in the command, and what is in its environment. */
export type Variables = Readonly<Record<VariableName, string>>;

const NAMES = ["nbd", "uri", "unixsocket", "port", "exportname", "tls"] as const;
type VariableName = (typeof NAMES)[number];

/** The variables for a server at `address`. */
export function captiveVariables(
  address: Address,
  exportName: string,
  security: Security = { policy: "off" },
): Variables {
  const uri = nbdUri(address, exportName, requiredCertificates(security));
  return {
    nbd: uri,
    uri,
    unixsocket: address.kind === "unix" ? address.path : "",
    port: address.kind === "tcp" ? String(address.port) : "",
    exportname: exportName,
    tls: security.policy,
  };
}

const REFERENCE = new RegExp(`\\$(?:(${NAMES.join("|")})\\b|\\{(${NAMES.join("|")})\\})`, "g");

/** True when a word of the command stands for the server, or contains what does. */
export function hasReference(word: string): boolean {
  return word.search(REFERENCE) >= 0;
}

/**
 * The words to execute. A single word is a command line for the shell, which finds the variables in
 * its environment; in several words `$name` and `${name}` are replaced, and no shell is involved.
 */
export function captiveWords(command: readonly string[], variables: Variables): string[] {
  if (command.length === 1) return ["/bin/sh", "-c", command[0] as string];
  return command.map((word) =>
    word.replace(REFERENCE, (_, bare?: string, braced?: string) => {
      return variables[(bare ?? braced) as VariableName];
    }),
  );
}
