/** How messages name options on the command line. */
import {
  type Option,
  type PartOption,
  variableOf,
  type Vocabulary,
} from "../messages/vocabulary.ts";
import { STREAM_OPTIONS } from "./options.ts";
import { KEYS } from "./parameters.ts";

/** Options that messages name by a short name, or that the tables do not have under the library's name. */
const EXCEPTIONS: Readonly<
  Record<PartOption | "exportName" | "failFast" | "image" | "keep", string>
> = {
  exportName: "-e",
  failFast: "--fail-fast",
  readerTimeout: "--reader-timeout",
  writerTimeout: "--writer-timeout",
  socketPath: "--unix",
  port: "-p",
  address: "-i",
  single: "--single",
  certificates: "--tls-certificates",
  image: "IMAGE",
  keep: "--keep",
  inputFormat: "-f",
  outputFormat: "-O",
};

const NAMES = new Map<string, string>([
  ...[...KEYS].map((key) => [key, `${key}=`] as const),
  ...STREAM_OPTIONS.map(([name, { sets }]) => [sets, `--${name}`] as const),
  ...Object.entries(EXCEPTIONS),
]);

function nameOf(option: Option): string {
  return NAMES.get(option) ?? option;
}

/** What is between an option and its value: what is right behind a short one belongs to that. */
function separatorOf(name: string): string {
  if (name.endsWith("=")) return "";
  return name.startsWith("--") ? "=" : " ";
}

export const COMMAND_LINE: Vocabulary = {
  name(option, placeholder) {
    const name = nameOf(option);
    if (placeholder === undefined) return name;
    return `${name}${separatorOf(name)}${placeholder}`;
  },
  given(option, value) {
    const name = nameOf(option);
    if (value === true) return name;
    if (value === false) return name.replace(/^--/, "--no-");
    return `${name}${separatorOf(name)}${value}`;
  },
  size: (bytes) => `size=${bytes}`,
  exec: (option, command) => `${option}=exec:'${command}'`,
  redirection: (file) => `pipe=- > ${file}`,
  reference: (exportName) => `${variableOf(exportName)}, in single quotes`,
  wholeCommand: "give the whole command after --",
  imageByQemuImg: "run pipe=… IMAGE",
};
