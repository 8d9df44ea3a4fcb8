/** Dry runs: of a client that exists only as what they found, and through the real engine. */
import { tmpdir } from "node:os";
import type { Trial } from "../../src/check/report.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import type { Counters } from "../../src/stream/counters.ts";
import type { DryRunFindings } from "../../src/stream/messages.ts";
import { SpoolFile } from "../../src/stream/spool-file.ts";
import { EngineFixture } from "./engine.ts";
import type { Peer } from "./peer.ts";

export const MiB = 2 ** 20;
export const NONE = { requests: 0, bytes: 0 };

const SURVEY: DryRunFindings = {
  writes: { requests: 2, bytes: 2 * MiB },
  zeroes: NONE,
  gaps: NONE,
  backward: NONE,
  places: [],
  farthest: 0,
  reads: NONE,
  readsHeld: NONE,
  readsBack: NONE,
  flushes: 1,
  concurrent: false,
  end: 2 * MiB,
  window: { size: 0, needed: 0, largest: 2 ** 30 },
  spool: { needed: 0 },
  undecided: false,
  scattered: false,
};

/** A dry run of a client in order that has succeeded, but for what is given. */
export function dryRun(survey: Partial<DryRunFindings> = {}, more: Partial<Trial> = {}): Trial {
  const ended = { status: 0, problem: null, format: null, spoolFailed: false };
  return { mode: "window", size: null, ...ended, survey: { ...SURVEY, ...survey }, ...more };
}

/** The command has failed. */
export const FAILED = {
  status: 1,
  problem: "the command has failed with status 1: see its message",
};

/** A dry run, whose endpoint never does anything. */
export class DryRunFixture extends EngineFixture {
  protected override moveEndpoint(): boolean {
    return false;
  }

  /** Sends a request and takes the answer. @returns the error */
  ask(peer: Peer, ...parts: Uint8Array[]): number {
    peer.send(...parts);
    this.until(() => peer.available >= 16);
    return peer.takeReplies()[0]?.error as number;
  }

  finish(): DryRunFindings {
    this.command({ type: "finish", short: "allow" });
    this.until(() => this.engine.over);
    const ended = this.events.find((event) => event.type === "ended");
    return ended?.dryRun as DryRunFindings;
  }
}

export function spoolOf(counters: Counters): SpoolFile {
  const folder = tmpdir();
  return new SpoolFile({ ...makeUnnamed(folder, true), folder }, counters);
}
