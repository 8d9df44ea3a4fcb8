/** How messages name options on the command line. */
import type { Option, Vocabulary } from "../messages/vocabulary.ts";

const NAMES: Readonly<Record<Option, string>> = {
  pipe: "pipe=",
  read: "read=",
  size: "size=",
  window: "window=",
  pad: "--pad",
  exact: "--exact",
  exportName: "-e",
  pidFile: "--pidfile",
  idleTimeout: "--idle-timeout",
  maxConnections: "--max-connections",
  negotiationTimeout: "--negotiation-timeout",
  reconnect: "--reconnect",
  readerTimeout: "--reader-timeout",
  writerTimeout: "--writer-timeout",
  progressInterval: "--progress-interval",
  socketPath: "--unix",
  port: "-p",
  address: "-i",
  single: "--single",
  certificates: "--tls-certificates",
  image: "IMAGE",
  inputFormat: "-f",
  outputFormat: "-O",
};

export const COMMAND_LINE: Vocabulary = {
  name(option, placeholder) {
    const name = NAMES[option];
    if (placeholder === undefined) return name;
    return name.endsWith("=") ? `${name}${placeholder}` : `${name}=${placeholder}`;
  },
  given(option, value) {
    const name = NAMES[option];
    if (value === true) return name;
    if (value === false) return name.replace(/^--/, "--no-");
    if (name.endsWith("=")) return `${name}${value}`;
    return name.startsWith("--") ? `${name}=${value}` : `${name} ${value}`;
  },
  size: (bytes) => `size=${bytes}`,
  exec: (option, command) => `${option}=exec:'${command}'`,
  redirection: (file) => `pipe=- > ${file}`,
  reference: "$nbd (or $uri), in single quotes",
  wholeCommand: "give the whole command after --",
  imageByQemuImg: "run pipe=… IMAGE",
};
