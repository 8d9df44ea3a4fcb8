import { expect, test } from "bun:test";
import { decideExitStatus, endedBy, type StreamEnd } from "../../src/server/exit-status.ts";
import { initialState, type StreamState } from "../../src/server/stream-state.ts";
import { told } from "../support/told.ts";

/** The end of a stream that a client has written and left as it should, but for what is given. */
function end(state: Partial<StreamState>, more: Partial<StreamEnd> = {}): StreamEnd {
  const good = { ...initialState(), connected: true, streamed: true, ended: true };
  return { state: { ...good, ...state }, completedBy: "command", size: 1024n, ...more };
}

const FAILED = {
  status: 7,
  why: { code: "ENDPOINT_FAILED", problem: "the command failed" },
} as const;
const BROKEN = {
  failure: { code: "READER_GONE", errno: 108, sink: "x", emitted: 5, unread: 0 },
} as const;

test("a stream with which nothing is wrong is 0", () => {
  expect(decideExitStatus(end({}))).toEqual({ status: 0, why: undefined });
});

test.each([
  ["is broken", end(BROKEN), /^the reader of x went away with the stream at byte 5:/],
  ["was left by its client without a word", end({ dropped: true }), /without NBD_CMD_DISC/],
  [
    "has a command at its end that has failed",
    end({}, { problem: { code: "ENDPOINT_FAILED", problem: "zstd failed" } }),
    /^zstd failed$/,
  ],
] as const)("a stream that %s is 4", (_, one, why) => {
  const { status, why: notice } = decideExitStatus(one);
  expect(status).toBe(4);
  expect(told(notice)).toMatch(why);
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
  expect(endedBy("SIGINT")).toEqual({ status: 130, why: { code: "STOPPED", signal: "SIGINT" } });
  expect(told(endedBy("SIGINT").why)).toBe("ended by SIGINT");
  expect(told(endedBy("SIGTERM", "STOPPED_BEFORE_STORED").why)).toStartWith(
    "ended by SIGTERM before the image was on the disk",
  );
});
