/** What a check has found, for people and for programs. */
import type { ClientFindings } from "./diagnosis.ts";
import type { Item } from "./item.ts";

/** The names are those of the JSON form. */
export interface Report {
  /** Nothing has failed. */
  readonly ok: boolean;
  readonly items: readonly Item[];
  /** Of a dry run; else null. */
  readonly client: ClientFindings | null;
}

export function reportOf(items: readonly Item[], client: ClientFindings | null = null): Report {
  return { ok: items.every(({ state }) => state !== "failed"), items, client };
}

/** A report as JSON, in one line; every number is a number. */
export function reportJson(report: Report): string {
  const number = (_: string, value: unknown) => (typeof value === "bigint" ? Number(value) : value);
  return `${JSON.stringify(report, number)}\n`;
}

/** A report as a table and, at its end, the line to use. */
export function reportText({ ok, items, client }: Report): string {
  const width = Math.max(0, ...items.map(({ name }) => name.length));
  const lines: string[] = [];
  let topic: string | undefined;
  for (const item of items) {
    if (item.topic !== topic) lines.push(...(topic === undefined ? [] : [""]), item.topic);
    topic = item.topic;
    lines.push(`  ${item.state.padEnd(7)}  ${item.name.padEnd(width)}  ${item.text}`);
  }
  lines.push("");
  if (client?.line != null) lines.push(client.line);
  else if (client !== null) {
    lines.push(`no run line ${client.impossible ? "works" : "was found"}: ${client.why}`);
  } else lines.push(ok ? "all is well" : "something has failed: see above");
  return `${lines.join("\n")}\n`;
}
