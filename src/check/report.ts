/** The findings of a check, as text and as JSON. */
import type { DryRunFindings } from "../stream/messages.ts";

/** `note`: worth knowing. `warning`: it may go wrong. `failed`: it does not work. */
type State = "ok" | "note" | "warning" | "failed";

export interface Item {
  readonly topic: "machine" | "self-test" | "endpoint" | "client";
  readonly name: string;
  readonly state: State;
  /** The finding and, if something is wrong, what to do. */
  readonly text: string;
}

/** Collects the items of one topic. */
export class ItemList {
  readonly items: Item[] = [];
  readonly #topic: Item["topic"];

  constructor(topic: Item["topic"]) {
    this.#topic = topic;
  }

  add(state: State, name: string, text: string): void {
    this.items.push({ topic: this.#topic, name, state, text });
  }

  /** Adds `text` as "ok", or `failure` as "failed". */
  check(isFine: boolean, name: string, text: string, failure: string): void {
    this.add(isFine ? "ok" : "failed", name, isFine ? text : failure);
  }
}

/**
 * How the clients of a dry run are answered: as by a stream with a small window, with a spool, or with one and
 * `--hold`.
 */
export type Mode = "window" | "spool" | "hold";

/** One run of the command. The names are those of the JSON form. */
export interface Trial {
  readonly mode: Mode;
  /** The stream's length in bytes; null for none. */
  readonly size: bigint | null;
  /** The command's exit status. */
  readonly status: number;
  /** What `run` would report, except the order of the writes; null for nothing. */
  readonly problem: string | null;
  /** The image format that the disk begins like; null for none, and where it was not kept. */
  readonly format: string | null;
  /** The spool has failed, as where it has no room: it is not known whether the command works. */
  readonly spoolFailed: boolean;
  readonly survey: DryRunFindings;
}

/** The names are those of the JSON form; sizes are in bytes. */
export interface ClientFindings {
  /** The command can be streamed by {@link line}. */
  readonly streams: boolean;
  /** The line to use; null when none works. */
  readonly line: string | null;
  /** Why none works; null when one does. */
  readonly why: string | null;
  /** Not even `--hold` helps: the command cannot be streamed as it is. */
  readonly impossible: boolean;
  /** The `size=` of the line; null for none. */
  readonly size: bigint | null;
  /** The `window=` of the line; 0 for none. */
  readonly window: number;
  /** The `spool=` of the line; null for none. */
  readonly spool: string | null;
  /** The line has `--hold`. */
  readonly hold: boolean;
  /** The line has `--no-pad`. */
  readonly noPad: boolean;
  /** How much the spool had to hold at once; 0 for none. */
  readonly room: number;
  readonly readsBack: boolean;
  readonly trials: readonly Trial[];
}

/** The names are those of the JSON form. */
export interface Report {
  readonly ok: boolean;
  readonly items: readonly Item[];
  /** Of a dry run, or null. */
  readonly client: ClientFindings | null;
}

export function reportOf(items: readonly Item[], client: ClientFindings | null = null): Report {
  return { ok: items.every(({ state }) => state !== "failed"), items, client };
}

/** JSON in one line, with bigints as numbers. */
export function reportJson(report: Report): string {
  const number = (_: string, value: unknown) => (typeof value === "bigint" ? Number(value) : value);
  return `${JSON.stringify(report, number)}\n`;
}

/** A table and, at its end, the line to use. */
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
  if (client === null) lines.push(ok ? "all is well" : "something has failed: see above");
  else if (client.line !== null) lines.push(client.line);
  else lines.push(`no run line ${client.impossible ? "works" : "was found"}: see above`);
  return `${lines.join("\n")}\n`;
}
