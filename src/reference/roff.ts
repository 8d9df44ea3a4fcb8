/** The requests and macros of man(7) that the man page needs. */

/** Escapes plain text for roff. */
export function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replaceAll('"', "\\(dq");
}

export function bold(text: string): string {
  return `\\fB${escaped(text)}\\fR`;
}

export function italic(text: string): string {
  return `\\fI${escaped(text)}\\fR`;
}

/** Plain text with bold between backquotes. */
export function marked(text: string): string {
  return text
    .split("`")
    .map((part, index) => (index % 2 === 0 ? escaped(part) : bold(part)))
    .join("");
}

/**
 * A command line: words are bold, placeholders in CAPITALS italic.
 *
 * @param text such as `pipe=tcp:HOST:PORT`
 */
export function typed(text: string): string {
  return text
    .split(/\b([A-Z]{3,}|N)\b/)
    .map((part, index) => (part === "" ? "" : index % 2 === 0 ? bold(part) : italic(part)))
    .join("");
}

/** A term with an indented text below it; both are roff. */
export function entry(term: string, text: string): string[] {
  return [".TP", term, text];
}

/** Plain lines, not filled. */
export function verbatim(lines: readonly string[]): string[] {
  return [".PP", ".RS 4", ".nf", ...lines.map((line) => `\\&${escaped(line)}`), ".fi", ".RE"];
}
