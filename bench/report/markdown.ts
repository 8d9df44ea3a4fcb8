/** Tables and lists of Markdown. */

/** @param text the columns that hold text; the others hold figures */
export function markdownTable(head: string[], lines: string[][], text = [0]): string {
  const line = (cells: string[]) => `| ${cells.join(" | ")} |\n`;
  const widths = head.map((_, column) =>
    Math.max(3, ...[head, ...lines].map((cells) => cells[column]?.length ?? 0)),
  );
  const padded = (cells: string[]) =>
    line(
      cells.map((cell, column) => {
        const width = widths[column] ?? 0;
        return text.includes(column) ? cell.padEnd(width) : cell.padStart(width);
      }),
    );
  const rule = widths.map((width, column) =>
    text.includes(column) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  return padded(head) + line(rule) + lines.map(padded).join("");
}

export function markdownList(items: readonly string[]): string {
  return items.map((item) => `- ${item}\n`).join("");
}
