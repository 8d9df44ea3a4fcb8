/** The progress of several streams as one. */
import type { Snapshot } from "./watch.ts";

/**
 * Adds up the progress of several streams.
 *
 * @param streams by export name
 * @param ended the names of those that have ended
 */
export function totalOf(
  streams: ReadonlyMap<string, Snapshot>,
  ended: ReadonlySet<string>,
): Snapshot | undefined {
  const all = [...streams];
  if (all.length === 0) return undefined;
  const sum = (of: (snapshot: Snapshot) => number) => all.reduce((n, [, one]) => n + of(one), 0);
  const running = all.filter(([name]) => !ended.has(name));
  const sized = all.every(([, { size }]) => size !== null);
  const streamed = sum((one) => one.streamed);
  const isHeld = ([, { phase }]: (typeof all)[number]) => phase === "holding";
  const phase = all.every(isHeld) ? "holding" : undefined;
  // Of streams of which some are held, those count that are streamed.
  const moving = phase === "holding" ? running : running.filter((one) => !isHeld(one));
  const rate = moving.reduce((n, [, one]) => n + one.rate, 0);
  const size = sized ? sum(({ size: own }) => own ?? 0) : null;
  const left = running.reduce((n, [, one]) => n + Math.max(0, (one.size ?? 0) - one.streamed), 0);
  const waiting = running.find(([, { state }]) => state !== undefined);
  const wait = waiting === undefined ? "" : `, ${waiting[0]}: ${waiting[1].state}`;
  return {
    streamed,
    data: sum((one) => one.data),
    zeroes: sum((one) => one.zeroes),
    size,
    elapsed: Math.max(...all.map(([, { elapsed }]) => elapsed)),
    spooled: sum((one) => one.spooled),
    phase,
    rate,
    remaining: size === null || rate === 0 || running.some(isHeld) ? undefined : left / rate,
    state: `${ended.size} of ${all.length} done${wait}`,
  };
}
