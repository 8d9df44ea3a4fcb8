import { expect, test } from "bun:test";
import { decideExitStatus, endedBy, type StreamEnd } from "../../src/server/exit-status.ts";
import { initialState, type StreamState } from "../../src/server/stream-state.ts";

/** The end of a stream that a client has written and left as it should, but for what is given. */
function end(state: Partial<StreamState>, more: Partial<StreamEnd> = {}): StreamEnd {
  const good = { ...initialState(), connected: true, streamed: true, ended: true };
  return { state: { ...good, ...state }, completedBy: "command", size: 1024n, ...more };
}

const FAILED = { status: 7, why: "the command failed" };
const BROKEN = {
  failure: { code: "READER_GONE", errno: 108, message: "the reader went away" },
} as const;

test("a stream with which nothing is wrong is 0", () => {
  expect(decideExitStatus(end({}))).toEqual({ status: 0, why: undefined });
});

test.each([
  ["is broken", end(BROKEN), /^the reader went away$/],
  ["was left by its client without a word", end({ dropped: true }), /without NBD_CMD_DISC/],
  [
    "has a command at its end that has failed",
    end({}, { problem: "zstd failed" }),
    /^zstd failed$/,
  ],
] as const)("a stream that %s is 4", (_, one, why) => {
  expect(decideExitStatus(one)).toEqual({ status: 4, why: expect.stringMatching(why) });
});

test("a captive command that has failed passes its own status on, whatever else is wrong", () => {
  for (const state of [{}, BROKEN, { crash: new Error("boom") }]) {
    expect(decideExitStatus(end(state, { commandFailure: FAILED }))).toEqual(FAILED);
  }
});

test("a stream thread that has died of a fault is an internal error", () => {
  expect(() => decideExitStatus(end({ crash: new Error("boom") }))).toThrow("boom");
});

test("a signal is 128 plus its number", () => {
  expect(endedBy("SIGINT")).toEqual({ status: 130, why: "ended by SIGINT" });
  expect(endedBy("SIGTERM", " too early").why).toBe("ended by SIGTERM too early");
});
