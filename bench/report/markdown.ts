/** Tables and lists of Markdown. */

/** Every column but the first holds figures. */
export function markdownTable(head: string[], lines: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(" | ")} |\n`;
  const widths = head.map((_, column) =>
    Math.max(3, ...[head, ...lines].map((cells) => cells[column]?.length ?? 0)),
  );
  const padded = (cells: string[]) =>
    line(
      cells.map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      }),
    );
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  return padded(head) + line(rule) + lines.map(padded).join("");
}

export function markdownList(items: readonly string[]): string {
  return items.map((item) => `- ${item}\n`).join("");
}
