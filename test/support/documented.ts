/** The command lines that the documents show, to be run as a reader would run them. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PROGRAM, ROOT } from "./program.ts";
import { quoted } from "./shell.ts";

/** A fenced block of a document. */
export interface Block {
  /** The headings that it stands below, the outermost first. */
  readonly headings: readonly string[];
  /** What the fence says of it: `sh`, or empty. */
  readonly language: string;
  readonly text: string;
  /** Where its first line is in the document, counted from 1. */
  readonly line: number;
}

/** All fenced blocks of a document of the project. @param name such as `README.md` */
export function blocksOf(name: string): Block[] {
  const blocks: Block[] = [];
  const headings: string[] = [];
  let open: { language: string; line: number; lines: string[] } | undefined;
  const lines = readFileSync(join(ROOT, name), "utf8").split("\n");
  for (const [index, line] of lines.entries()) {
    const [fence, , language = ""] = /^(```)(\w*)$/.exec(line) ?? [];
    if (open !== undefined && fence !== undefined) {
      const text = `${open.lines.join("\n")}\n`;
      blocks.push({ headings: [...headings], language: open.language, text, line: open.line });
      open = undefined;
    } else if (open !== undefined) {
      open.lines.push(line);
    } else if (fence !== undefined) {
      open = { language, line: index + 2, lines: [] };
    } else {
      const [, level, title] = /^(#+) (.*)$/.exec(line) ?? [];
      if (level !== undefined) headings.splice(level.length - 1, headings.length, title as string);
    }
  }
  if (open !== undefined) throw new Error(`${name}:${open.line}: the block has no end`);
  return blocks;
}

/** The one block of a document that contains a text. */
export function documentedBlock(name: string, text: string): Block {
  const [block, ...more] = blocksOf(name).filter((candidate) => candidate.text.includes(text));
  if (block === undefined) throw new Error(`${name}: no block has ${text}`);
  if (more.length > 0) throw new Error(`${name}: ${more.length + 1} blocks have ${text}`);
  return block;
}

/** The command of a `read=exec:` in a document's running text, by its first words. */
export function documentedSource(name: string, begin: string): string {
  const document = readFileSync(join(ROOT, name), "utf8");
  const sources = [...document.matchAll(/`read=exec:'([^']*)'`/g)].map(
    ([, source]) => source ?? "",
  );
  const [source, ...more] = sources.filter((candidate) => candidate.startsWith(begin));
  if (source === undefined || more.length > 0) throw new Error(`${name}: not one ${begin}`);
  return source;
}

/** The commands that a block of an interactive session shows, each with what it has printed. */
export function sessionOf({ text }: Block): { command: string; output: string }[] {
  return text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf("\n") + 1;
      return { command: part.slice(0, end - 1), output: part.slice(end) };
    });
}

/**
 * Makes a folder to have in front in PATH, with the program in it under its name, and with `bun`.
 *
 * @param commands further ones: shell scripts, by their names
 */
export function binFolder(path: string, commands: Readonly<Record<string, string>> = {}): string {
  mkdirSync(path, { recursive: true });
  symlinkSync(process.execPath, join(path, "bun"));
  const program = `exec ${PROGRAM.map(quoted).join(" ")} "$@"\n`;
  for (const [name, text] of Object.entries({ "nbd-streaming": program, ...commands })) {
    writeFileSync(join(path, name), `#!/bin/sh\n${text}`, { mode: 0o755 });
  }
  return path;
}
