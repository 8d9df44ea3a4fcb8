import { expect, test } from "bun:test";
import { mayNeedSize } from "../../src/check/client.ts";
import { dryRun as trial, FAILED } from "../support/dry-runs.ts";

test("size= may be why a command fails, but not where it reads back or goes back too far", () => {
  expect(mayNeedSize(trial({}, FAILED))).toBeTrue();
  expect(mayNeedSize(trial({ end: 2n ** 62n }))).toBeTrue();
  expect(mayNeedSize(trial())).toBeFalse();
  expect(mayNeedSize(trial({ readsBack: { requests: 1, bytes: 1 } }, FAILED))).toBeFalse();
  expect(mayNeedSize(trial({ window: undefined }, FAILED))).toBeTrue();
  expect(mayNeedSize(trial({ window: undefined, spool: undefined }, FAILED))).toBeFalse();
  const held = { ...FAILED, mode: "hold" } as const;
  expect(mayNeedSize(trial({ readsBack: { requests: 1, bytes: 1 } }, held))).toBeTrue();
});
