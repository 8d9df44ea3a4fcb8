/** Formats a snapshot: as a bar, a line for people, a line for programs. */
import type { Snapshot } from "./watch.ts";

/** Columns of a bar, brackets included. */
const MIN_BAR = 12;
const MAX_BAR = 42;

const GREEN = "\x1b[32m";
const YELLOW = "\x1b[33m";
const PLAIN = "\x1b[0m";

/**
 * The richest form of the bar that fits. ASCII only, in which each character takes one column on every
 * terminal.
 *
 * @param width columns
 */
export function barText(snapshot: Snapshot, width: number, colour: boolean): string {
  const percent = percentText(snapshot);
  const note = noteText(snapshot);
  for (const { figures, bar } of forms(snapshot)) {
    const fixed = joined(percent, figures, note).length;
    const room = bar ? width - fixed - 1 : 0;
    if (fixed > width || (bar && room < MIN_BAR)) continue;
    const drawn = bar ? gauge(snapshot, Math.min(room, MAX_BAR), colour) : "";
    const shown = colour && snapshot.state !== undefined ? `${YELLOW}${note}${PLAIN}` : note;
    return joined(percent, drawn, figures, shown);
  }
  return (percent || formatBytes(position(snapshot))).slice(0, Math.max(0, width));
}

/** The parts between the percentage and the note, the richest form first. */
function forms(snapshot: Snapshot): { figures: string; bar: boolean }[] {
  const { size, phase } = snapshot;
  const bytes = formatBytes(position(snapshot));
  const speed = speedText(snapshot);
  const spooled = spoolText(snapshot);
  const plain = (texts: string[]) => texts.map((figures) => ({ figures, bar: false }));
  if (phase === "holding") {
    return plain([`holding ${bytes}, ${speed}`, `holding ${bytes}`, bytes, ""]);
  }
  const total = size === null ? bytes : `${bytes} of ${formatBytes(size)}`;
  const texts = [`${total}, ${speed}`, `${bytes}, ${speed}`, bytes];
  if (spooled !== "") texts.unshift(`${total}, ${speed}, ${spooled}`);
  if (size === null) return plain([...texts, ""]);
  return [...texts.map((figures) => ({ figures, bar: true })), ...plain([bytes, ""])];
}

function gauge({ streamed, size }: Snapshot, width: number, colour: boolean): string {
  const inner = width - 2;
  const part = size === null || size === 0 ? 0 : Math.min(1, streamed / size);
  const filled = "#".repeat(Math.floor(inner * part));
  const rest = ".".repeat(inner - filled.length);
  return colour ? `[${GREEN}${filled}${PLAIN}${rest}]` : `[${filled}${rest}]`;
}

/** The line for people. */
export function lineText(snapshot: Snapshot): string {
  const { size, phase } = snapshot;
  const bytes = formatBytes(position(snapshot));
  const total = size === null ? bytes : `${bytes} of ${formatBytes(size)}`;
  const figures = phase === "holding" ? `holding ${bytes}` : total;
  const percent = percentText(snapshot).trim();
  const spooled = phase === "holding" ? "" : spoolText(snapshot);
  return [percent, figures, speedText(snapshot), spooled, noteText(snapshot)]
    .filter((part) => part !== "")
    .join(", ");
}

/** Bytes that the figures begin with. */
function position({ phase, spooled, streamed }: Snapshot): number {
  return phase === "holding" ? spooled : streamed;
}

function speedText({ rate }: Snapshot): string {
  return `${formatBytes(rate)}/s`;
}

/** What is in the spool, if there is anything. */
function spoolText({ spooled }: Snapshot): string {
  return spooled === 0 ? "" : `${formatBytes(spooled)} spooled`;
}

/** The line for programs: a JSON object; the size is null if not known. */
export function jsonText(
  { streamed, data, zeroes, size, elapsed, spooled, phase }: Snapshot,
  exportName?: string,
): string {
  const name = exportName === undefined ? {} : { export: exportName };
  const seconds = Number(elapsed.toFixed(3));
  // Without a phase, there is no such field.
  return JSON.stringify({
    ...name,
    streamed,
    data,
    zeroes,
    size,
    elapsed: seconds,
    spooled,
    phase,
  });
}

function percentText({ streamed, size, phase }: Snapshot): string {
  return size === null || phase === "holding"
    ? ""
    : `${percentOf(streamed, size, false)}%`.padStart(3);
}

/** What the stream waits for, or else the time that is left, or has passed. */
function noteText({ state, remaining, elapsed, size, phase }: Snapshot): string {
  if (state !== undefined) return state;
  if (size === null || phase === "holding") return formatDuration(elapsed);
  return remaining === undefined ? "" : `${formatDuration(remaining)} left`;
}

function joined(...parts: string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;

/** Bytes in at most 8 characters, such as `1023 B`, `4.50 GiB` or `1023 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // A value that would be rounded up to 1024 becomes 1 of the next unit.
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

const DAY = 24 * 60 * 60;

/** Seconds as `0:09`, `12:34`, `3:05:09`, `5d 3h`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole >= 1000 * DAY) return "years";
  const days = Math.floor(whole / DAY);
  const hours = Math.floor(whole / 3600) % 24;
  if (days > 0) return `${days}d ${hours}h`;
  const minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  if (hours === 0) return `${minutes}:${rest}`;
  return `${hours}:${String(minutes).padStart(2, "0")}:${rest}`;
}

/** Whole percent, rounded down; 100 only for a complete stream. */
export function percentOf(streamed: number, size: number, complete: boolean): number {
  if (complete) return 100;
  return size > 0 ? Math.min(99, Math.floor((100 * streamed) / size)) : 0;
}
