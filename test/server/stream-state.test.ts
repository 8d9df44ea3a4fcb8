import { describe, expect, test } from "bun:test";
import { NBD_EINVAL, NBD_ENOSPC } from "../../src/protocol/constants.ts";
import {
  type StreamState,
  type CompletedBy,
  incompleteReason,
} from "../../src/server/stream-state.ts";
import { told } from "../support/told.ts";

/** A stream that a client has written and left as it should. */
const GOOD: StreamState = {
  failure: undefined,
  crash: undefined,
  refused: undefined,
  readBack: undefined,
  connected: true,
  streamed: true,
  dropped: false,
  abandoned: false,
  awaited: false,
  leftBehind: undefined,
  sourceEnded: false,
  atEnd: false,
  ended: false,
};

const LEFT = {
  code: "LEFT_BEHIND",
  processes: [],
  client: "connected",
  emitted: 7,
  size: 1024n,
} as const;

/** All that can be wrong, the worst first. */
const WRONG: [string, Partial<StreamState>, RegExp][] = [
  ["a crash", { crash: new Error("boom") }, /^boom$/],
  [
    "a failure",
    { failure: { code: "READER_GONE", errno: 108, sink: "x", emitted: 7, unread: 0 } },
    /^the reader of x went away with the stream at byte 7: /,
  ],
  [
    "a refused request",
    { refused: { request: "NBD_CMD_WRITE of 512 bytes at 1024", error: NBD_ENOSPC } },
    /^NBD_CMD_WRITE of 512 bytes at 1024 goes past the end: size=1024 is too small/,
  ],
  ["what is still there", { leftBehind: LEFT }, /a client that it left behind is still connected/],
];

const judge = (facts: Partial<StreamState>, by: CompletedBy) =>
  told(incompleteReason({ ...GOOD, ...facts }, by, 1024n));

describe.each<CompletedBy>(["clients", "command"])("by the %s", (by) => {
  test("a stream with nothing wrong is complete, whether it has ended or not", () => {
    expect(judge({}, by)).toBeUndefined();
    expect(judge({ ended: true }, by)).toBeUndefined();
  });

  test("a stream into which nothing was written is complete", () => {
    expect(judge({ streamed: false }, by)).toBeUndefined();
  });

  test.each(WRONG)("%s makes it incomplete", (_, facts, message) => {
    expect(judge(facts, by)).toMatch(message);
    expect(judge({ ...facts, ended: true }, by)).toMatch(message);
  });

  test("the worst that is wrong is told", () => {
    for (let first = 0; first < WRONG.length; first++) {
      const facts = Object.assign({}, ...WRONG.slice(first).map(([, wrong]) => wrong));
      const message = (WRONG[first] as (typeof WRONG)[number])[2];
      expect(judge({ ...facts, dropped: true, connected: false }, by)).toMatch(message);
    }
  });
});

test("a client that left without a word makes the stream incomplete, whoever decides", () => {
  for (const by of ["clients", "command"] as const) {
    expect(judge({ dropped: true }, by)).toMatch(/^a client left without NBD_CMD_DISC/);
  }
});

test("a request refused for its flags is not blamed on the size", () => {
  const refused = { request: "NBD_CMD_WRITE of 512 bytes at 0", error: NBD_EINVAL };
  expect(judge({ refused }, "clients")).toMatch(/^NBD_CMD_WRITE of 512 bytes at 0 was refused/);
});

test("a command that never connected makes the stream incomplete if the command decides", () => {
  const facts = { connected: false, streamed: false };
  expect(judge(facts, "command")).toMatch(/without connecting: pass it \$nbd/);
  expect(judge(facts, "clients")).toBeUndefined();
});

test("no message has more than one line", () => {
  const more: Partial<StreamState>[] = [{ dropped: true }, { connected: false }];
  for (const facts of [...WRONG.map(([, wrong]) => wrong), ...more]) {
    const messages = [judge(facts, "clients"), judge(facts, "command")];
    expect(messages.some((message) => message !== undefined)).toBeTrue();
    expect(messages.join("")).not.toContain("\n");
  }
});
