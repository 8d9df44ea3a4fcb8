import { expect, setDefaultTimeout, test } from "bun:test";
import type { Failure, Words } from "../../src/messages/notice.ts";
import { OpenTimer } from "../../src/server/timers.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually } from "../support/program.ts";
import { told } from "../support/told.ts";

setDefaultTimeout(LIMIT);

function waiting(
  direction: "read" | "write",
  timeout: number | undefined,
  sync: (end: OpenTimer) => void = () => {},
) {
  const said: (string | undefined)[] = [];
  const failures: Failure[] = [];
  const quiet = () => {};
  const log = { info: (words: Words) => said.push(told(words)), warn: quiet, verbose: quiet };
  const end: OpenTimer = new OpenTimer({
    direction,
    name: "the fifo",
    timeout,
    log,
    sync: () => Promise.resolve(sync(end)),
    onTimeout: (failure) => failures.push(failure),
  });
  return { end, said, failures };
}

test.each([
  ["read", "writer", "cat FILE > the fifo"],
  ["write", "reader", "cat the fifo > FILE"],
] as const)(
  "of a stream that one can %s, a %s is waited for and told of",
  async (direction, who, example) => {
    const { end, said, failures } = waiting(direction, undefined);
    expect(end.who).toBe(who);
    await eventually(() => said.length > 0, "the notice");
    expect(said).toEqual([`waiting for a ${who} of the fifo: start one, such as ${example}`]);
    expect(failures).toEqual([]);
    end.end();
  },
);

test("nobody who comes in time is a failure, once", async () => {
  const { end, failures } = waiting("write", 50);
  await eventually(() => failures.length > 0, "the failure");
  expect(told(failures[0])).toContain("the fifo");
  await Bun.sleep(100);
  expect(failures.length).toBe(1);
  end.end();
});

test("nothing is told of one who has come", async () => {
  const { end, said, failures } = waiting("write", 50);
  end.end();
  await Bun.sleep(1100);
  expect([...said, ...failures]).toEqual([]);
});

test("one who has come in time is no failure, also if that becomes known only when the time is over", async () => {
  const asked = Promise.withResolvers<void>();
  const { failures } = waiting("write", 50, (end) => {
    end.end();
    asked.resolve();
  });
  await asked.promise;
  await Bun.sleep(100);
  expect(failures).toEqual([]);
});
