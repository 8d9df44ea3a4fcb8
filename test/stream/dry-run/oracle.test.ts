/** What a dry run says of a window or a spool, against the real stream with that. */
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { NBD_CMD_READ, NBD_CMD_WRITE_ZEROES, NBD_OK } from "../../../src/protocol/constants.ts";
import { Counters } from "../../../src/stream/counters.ts";
import { SPOOL, WindowTrial } from "../../../src/stream/dry-run/window-trial.ts";
import { spoolOf } from "../../support/dry-runs.ts";
import { exploring } from "../../support/exploring.ts";
import { LIMIT } from "../../support/limit.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";
import { StreamFixture } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260102, 60);

const SIZE = 1 << 20;

interface Step {
  readonly kind: "write" | "zero" | "read";
  readonly offset: number;
  readonly length: number;
}

/** Requests within the disk, mostly in order: each starts at a distance from the end of the last. */
const steps = fc
  .array(
    fc.record({
      kind: fc.constantFrom("write", "write", "write", "write", "zero", "read"),
      jump: fc.oneof(
        { weight: 6, arbitrary: fc.constant(0) },
        { weight: 3, arbitrary: fc.integer({ min: 0, max: 150_000 }) },
        { weight: 2, arbitrary: fc.integer({ min: -250_000, max: -1 }) },
      ),
      length: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 100_000 })),
    }),
    { maxLength: 30 },
  )
  .map((records) => {
    let at = 0;
    return records.map(({ kind, jump, length }): Step => {
      const offset = Math.min(SIZE - length, Math.max(0, at + jump));
      at = offset + length;
      return { kind: kind as Step["kind"], offset, length };
    });
  });

test.each([
  ...[0, 65536, 200_000, 1 << 20].map((window) => [`a window of ${window} bytes`, window] as const),
  ["a spool", SPOOL] as const,
])("%s is found large enough where the real stream does not break", (_, window) => {
  const isSpool = window === SPOOL;
  const outcomes = new Set<boolean>();
  fc.assert(
    fc.property(steps, (script) => {
      using stream = new StreamFixture({
        size: SIZE,
        window: isSpool ? 0 : window,
        spool: isSpool,
      });
      using spool = new Spool();
      const trial = new WindowTrial(SIZE, window, true, spool.file);
      const accounts = new WindowTrial(SIZE, window);
      const peer = stream.connect();
      for (const [index, { kind, offset, length }] of script.entries()) {
        if (kind === "read") {
          peer.send(encodeRequest(NBD_CMD_READ, offset, length));
          const answer = trial.read(offset, length);
          expect(accounts.read(offset, length)).toBe(answer);
          const payload = answer === NBD_OK ? length : 0;
          stream.until(() => peer.available >= 16 + payload);
          expect(peer.take(16).readUInt32BE(4)).toBe(answer);
          if (answer !== NBD_OK) continue;
          const held = trial.data(offset, length) ?? new Uint8Array(length);
          expect(Buffer.compare(peer.take(length), held)).toBe(0);
          continue;
        }
        if (kind === "write") {
          const payload = Buffer.alloc(length, index + 1);
          trial.write(offset, length);
          accounts.write(offset, length);
          trial.put(offset, payload);
          peer.send(encodeWrite(offset, payload));
        } else {
          trial.zero(offset, length);
          accounts.zero(offset, length);
          peer.send(encodeRequest(NBD_CMD_WRITE_ZEROES, offset, length));
        }
        stream.until(() => peer.available >= 16);
        peer.takeReplies();
        expect(trial.alive).toBe(stream.broken === undefined);
        expect(accounts.alive).toBe(trial.alive);
        if (!trial.alive) break;
      }
      outcomes.add(trial.alive);
      stream.command({ type: "finish", short: "allow" });
      stream.until(() => stream.engine.over);
      const ended = stream.events.find((event) => event.type === "ended");
      if (trial.alive) expect(trial.needed).toBe(ended?.windowNeeded as number);
      expect(accounts.mostHeld).toBe(trial.mostHeld);
    }),
    { seed: isSpool ? SEED - 1 : SEED + window, numRuns: RUNS },
  );
  expect(outcomes.has(true)).toBeTrue();
});

/** The file of a trial, if it wants one. */
class Spool implements Disposable {
  readonly file = spoolOf(new Counters());

  [Symbol.dispose](): void {
    this.file.close();
  }
}
