/** A terminal's rows as a picture (SVG 1.1): texts of a monospace font, so that it is small and can be read. */

/** Pixels. */
const WIDTH = 7.8;
const HEIGHT = 18;
const SIZE = 13;
const MARGIN = 14;

const BACKGROUND = "#1c2128";
const FOREGROUND = "#d0d7de";
/** Of SGR 30 to 37 (ECMA-48, 8.3.117); 90 to 97 get the same. */
const COLOURS = [
  "#6e7681",
  "#ff7b72",
  "#7ee787",
  "#e3b341",
  "#79c0ff",
  "#d2a8ff",
  "#76e3ea",
  "#ffffff",
];

/** Part of a row in one style. */
interface Span {
  readonly column: number;
  readonly text: string;
  readonly colour: string;
  readonly bold: boolean;
}

/** @param parts what comes with a line between them @param columns of the terminal */
export function pictureOf(parts: readonly (readonly string[])[], columns: number): string {
  const texts: string[] = [];
  let y = MARGIN;
  for (const [index, rows] of parts.entries()) {
    if (index > 0) {
      texts.push(`<path d="M0 ${y + HEIGHT / 2}H${widthOf(columns)}" stroke="#444c56"/>`);
      y += HEIGHT;
    }
    for (const row of rows) {
      for (const span of spansOf(row)) texts.push(textOf(span, y + SIZE));
      y += HEIGHT;
    }
  }
  const [width, height] = [widthOf(columns), y + MARGIN];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<!-- Made by \`bun run picture\` from a real session. -->
<title>A stream, a truncated stream, and a check, in a terminal</title>
<rect width="100%" height="100%" rx="6" fill="${BACKGROUND}"/>
<g font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="${SIZE}" fill="${FOREGROUND}">
${texts.join("\n")}
</g>
</svg>
`;
}

function widthOf(columns: number): number {
  return Math.ceil(columns * WIDTH + 2 * MARGIN);
}

function textOf({ column, text, colour, bold }: Span, y: number): string {
  const style = `${colour === FOREGROUND ? "" : ` fill="${colour}"`}${bold ? ' font-weight="bold"' : ""}`;
  const x = Number((MARGIN + column * WIDTH).toFixed(1));
  // Whatever the font is, the columns stand below each other.
  const width = Number((text.length * WIDTH).toFixed(1));
  const escaped = Bun.escapeHTML(text).replaceAll("&#x27;", "'");
  return `<text x="${x}" y="${y}" textLength="${width}" xml:space="preserve"${style}>${escaped}</text>`;
}

/** The texts of a row that has control sequences for colours (SGR); blanks at its ends are left out. */
function spansOf(row: string): Span[] {
  const spans: Span[] = [];
  let [column, colour, bold] = [0, FOREGROUND, false];
  // Text, and behind each piece of it the parameters of a sequence.
  for (const [index, piece] of row.split(/\x1b\[([\d;]*)m/).entries()) {
    if (index % 2 === 1) {
      for (const code of piece.split(";").map(Number)) {
        if (code === 0) [colour, bold] = [FOREGROUND, false];
        if (code === 1) bold = true;
        if (code === 22) bold = false;
        if (code === 39) colour = FOREGROUND;
        if ([3, 9].includes(Math.floor(code / 10))) colour = COLOURS[code % 10] ?? FOREGROUND;
      }
      continue;
    }
    const text = piece.trim();
    const lead = piece.length - piece.trimStart().length;
    if (text !== "") spans.push({ column: column + lead, text, colour, bold });
    column += piece.length;
  }
  return spans;
}
