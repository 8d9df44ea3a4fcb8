/** The peak resident size of a server. */
import { readFileSync } from "node:fs";

/** The kernel keeps the high-water mark, so only what it rises by in the end can be missed. */
const EVERY_MS = 50;

/** Follows the process whose id appears in a file, until it is disposed. */
export class PeakWatch implements Disposable {
  #bytes: number | undefined;
  #pid = "";
  readonly #timer: Timer;

  constructor(private readonly pidfile: string) {
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
  }

  /** VmHWM when it was last looked at, if it ever was. */
  get bytes(): number | undefined {
    return this.#bytes;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#pid ||= textOf(this.pidfile).trim();
    if (this.#pid === "") return;
    // A process that has ended has no such line.
    const kib = /^VmHWM:\s+(\d+) kB$/m.exec(textOf(`/proc/${this.#pid}/status`))?.[1];
    if (kib !== undefined) this.#bytes = Number(kib) * 1024;
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
