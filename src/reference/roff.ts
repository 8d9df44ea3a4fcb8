/** The few requests and macros of man(7) that the page needs. */

/** Plain text as roff shows it unchanged. */
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

/** Text in which what is between backquotes is bold. */
export function marked(text: string): string {
  return text
    .split("`")
    .map((part, index) => (index % 2 === 0 ? escaped(part) : bold(part)))
    .join("");
}

/**
 * What is typed: words are bold, and NAMES that stand for something italic.
 *
 * @param text such as `pipe=tcp:HOST:PORT`
 */
export function typed(text: string): string {
  return text
    .split(/\b([A-Z]{3,}|N)\b/)
    .map((part, index) => (part === "" ? "" : index % 2 === 0 ? bold(part) : italic(part)))
    .join("");
}

export function section(title: string): string[] {
  return [`.SH ${title}`];
}

export function subsection(title: string): string[] {
  return [`.SS ${title}`];
}

/** @param lines roff, not plain text */
export function paragraph(...lines: readonly string[]): string[] {
  return [".PP", ...lines];
}

/** A term and, below it and indented, what it means; both are roff. */
export function entry(term: string, text: string): string[] {
  return [".TP", term, text];
}

/** Plain lines as they are. */
export function verbatim(lines: readonly string[]): string[] {
  return [".PP", ".RS 4", ".nf", ...lines.map((line) => `\\&${escaped(line)}`), ".fi", ".RE"];
}
