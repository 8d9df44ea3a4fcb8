import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import { ReconnectTimer } from "../../src/server/timers.ts";
import { initialState } from "../../src/server/stream-state.ts";
import { told } from "../support/told.ts";

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

function reconnect(seconds: number | undefined) {
  const state = initialState();
  const heard: (string | undefined)[] = [];
  const timer = new ReconnectTimer(seconds === undefined ? undefined : seconds * 1000, state, {
    warn: (message) => heard.push(told(message)),
    giveUp: () => Promise.resolve(void heard.push("given up")),
    decided: () => heard.push("decided"),
  });
  return { state, heard, timer };
}

/** Has so many milliseconds pass, and what was due by then be done. */
async function pass(milliseconds: number): Promise<void> {
  jest.advanceTimersByTime(milliseconds);
  for (let i = 0; i < 4; i++) await Promise.resolve();
}

test("a lost client has the seconds of --reconnect to come back, and no more", async () => {
  const { state, heard, timer } = reconnect(0.5);
  timer.lost();
  expect(state).toMatchObject({ awaited: true, dropped: false });
  expect(heard).toEqual(["a client was lost; it has 0.5 s to come back"]);
  await pass(499);
  expect(state).toMatchObject({ awaited: true, dropped: false });
  await pass(1);
  expect(heard.slice(1)).toEqual(["given up", "decided"]);
  expect(state).toMatchObject({ awaited: false, dropped: true });
});

test("a client that is back is not given up, and has all of the time again when it is lost again", async () => {
  const { state, heard, timer } = reconnect(1);
  timer.lost();
  await pass(900);
  timer.returned();
  await pass(10_000);
  expect(state).toMatchObject({ awaited: false, dropped: false });
  timer.lost();
  await pass(999);
  expect(state.awaited).toBeTrue();
  await pass(1);
  expect(state).toMatchObject({ awaited: false, dropped: true });
  expect(heard.filter((word) => word === "given up")).toHaveLength(1);
});

test("without --reconnect a lost client has no time at all, and nothing is told", () => {
  const { state, heard, timer } = reconnect(undefined);
  timer.lost();
  expect(state).toMatchObject({ awaited: false, dropped: true });
  expect(heard).toEqual([]);
});

test("an end that does not wait gives up before the timeout, once", async () => {
  const { state, heard, timer } = reconnect(60);
  timer.lost();
  await timer.giveUp();
  expect(state).toMatchObject({ awaited: false, dropped: true });
  await pass(60_000);
  expect(heard.slice(1)).toEqual(["given up", "decided"]);
});

test("a client that came back while it was given up is not dropped", async () => {
  const state = initialState();
  const handlers = {
    warn: () => {},
    giveUp: () => Promise.resolve(timer.returned()),
    decided: () => {
      throw new Error("nothing is decided");
    },
  };
  const timer: ReconnectTimer = new ReconnectTimer(1000, state, handlers);
  timer.lost();
  await pass(1000);
  expect(state).toMatchObject({ awaited: false, dropped: false });
});
