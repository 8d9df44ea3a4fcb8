import { describe, expect, test } from "bun:test";
import { Memory } from "../../ffi/memory.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import { Counters } from "../../src/stream/counters.ts";
import { SpoolFile } from "../../src/stream/spool-file.ts";
import { tempFolder } from "../support/temp.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Lets `work` use a spool, with data to write into it. @returns the counters when it is closed */
function spooling(
  work: (spool: SpoolFile, write: (at: number, length: number) => void, counters: Counters) => void,
): Counters {
  using folder = tempFolder();
  const counters = new Counters();
  const handle = { ...makeUnnamed(folder.path, true), folder: folder.path };
  const spool = new SpoolFile(handle, counters);
  const data = new Memory(MiB);
  data.bytes.fill(1);
  try {
    work(spool, (at, length) => spool.write(at, data.at(0), length), counters);
  } finally {
    spool.close();
  }
  return counters;
}

describe("the counters of a spool", () => {
  test("tell of a small file what it takes, when there is time for that", () => {
    spooling((spool, write, counters) => {
      write(0, 64 * KiB);
      spool.remeasure();
      expect(counters.spooled).toBeGreaterThanOrEqual(64 * KiB);
    });
  });

  test("keep the most that it took right before a part of it was given back", () => {
    const counters = spooling((spool, write) => {
      for (let at = 0; at < 10 * MiB; at += 64 * KiB) write(at, 64 * KiB);
      spool.release(10 * MiB);
    });
    expect(counters.mostSpooled).toBeGreaterThanOrEqual(10 * MiB);
  });

  test("tell that nothing is left of it when it is closed", () => {
    const counters = spooling((_, write) => write(0, MiB));
    expect(counters.spooled).toBe(0);
    expect(counters.mostSpooled).toBeGreaterThanOrEqual(MiB);
  });

  test("count all that is written, even where that takes no more room", () => {
    const counters = spooling((_, write) => {
      for (let i = 0; i < 3; i++) write(0, MiB);
    });
    expect(counters.stored).toBe(3 * MiB);
    expect(counters.mostSpooled).toBeLessThan(3 * MiB);
  });
});
