/** Numbers as people read them. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;

/** Bytes in at most 8 characters, such as `1023 B`, `4.50 GiB` or `1023 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // What would be rounded up to 1024 is 1 of the next.
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

/** Whole percent, rounded down; 100 is only for a stream that is complete. */
export function percentOf(streamed: number, size: number, complete: boolean): number {
  if (complete) return 100;
  return size > 0 ? Math.min(99, Math.floor((100 * streamed) / size)) : 0;
}
