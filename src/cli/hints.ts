/** Mistakes in the words of the command line that leave an obvious trace, and what was meant. */
import { usageError } from "../errors.ts";
import { hasReference } from "../captive/command.ts";

/** Clients that take the server only from their words, not from the environment. */
const CLIENTS = ["qemu-img", "qemu-io", "nbdcopy", "nbdinfo"];

/** A command line for the shell, too, starts with its command. */
const CLIENT = new RegExp(`^\\s*(${CLIENTS.join("|")})(\\s|$)`);

/** Words with which a client does not look for a server. */
const ABOUT_ITSELF = /(^|\s)(--version|--help|-h|-V)(\s|$)/;

/**
 * Refuses a client that cannot find a private socket: its `$nbd` was not in single quotes, and so the
 * shell has put nothing in its place.
 *
 * @throws UserError ERR_USAGE
 */
export function requireReference(captive: readonly string[] | undefined): void {
  const [, client] = CLIENT.exec(captive?.[0] ?? "") ?? [];
  if (captive === undefined || client === undefined) return;
  // In a command line for the shell, any variable may hold it.
  const told = captive.length === 1 ? captive[0]?.includes("$") : captive.some(hasReference);
  if (told || captive.some((word) => ABOUT_ITSELF.test(word))) return;
  throw usageError(
    `${client} is not told where the server is: put $nbd or $uri among its words in single quotes, ` +
      "'$nbd', or the shell replaces it first",
  );
}

/** Refuses a command that stands without `--`. @throws UserError ERR_USAGE */
export function requireDashes(words: readonly string[]): void {
  // What follows an option may be its value.
  const start = words.findIndex((word, i) => CLIENT.test(word) && !words[i - 1]?.startsWith("-"));
  if (start < 0) return;
  const command = (words[start] as string).trim().split(/\s/)[0];
  throw usageError(`a command comes after --: write -- in front of ${command}`);
}

/** For a word that has no place, where it may be one of `exec:`'s. @param words those before it */
export function quotesHint(words: readonly string[]): string {
  const command = words.find((word) => /^(pipe|write|read)=exec:\S+$/.test(word));
  if (command === undefined) return "";
  const [, key, name] = /^(.*?)=exec:(.*)$/.exec(command) ?? [];
  return `; if it belongs to ${name}, write ${key}=exec:'${name} …', all of it in quotes`;
}

/** What was meant by the name of a command that does not exist, where that shows. */
export function commandHint(name: string): string | undefined {
  if (/^(pipe|write|read)=/.test(name)) {
    return `the command is missing: write nbd-streaming run ${name}, or nbd-streaming serve ${name}`;
  }
  if (name === "streaming") {
    return "nbdkit's streaming is nbd-streaming serve here, or nbd-streaming run with a command after --";
  }
  return undefined;
}
