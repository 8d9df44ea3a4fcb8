import { describe, expect, test } from "bun:test";
import { encodeOption } from "../support/wire.ts";
import {
  ALLOCATION,
  ANY_NAME,
  converse,
  DISK,
  FIXED,
  hex,
  infoRequest,
  metaContextRequest,
  NO_ZEROES,
  reply,
  SIMPLE,
  STRUCTURED,
  transmission,
} from "./conversation.ts";

const EXPORT_NAME = 1;
const STARTTLS = 5;
const INFO = 6;
const GO = 7;
const STRUCTURED_REPLY = 8;
const LIST = 9;
const SET = 10;

const ACK = 1;
const META_CONTEXT = 4;
const ERR_INVALID = 0x8000_0003;
const ERR_UNKNOWN = 0x8000_0006;
const ERR_TOO_BIG = 0x8000_0009;

const ASK = encodeOption(STRUCTURED_REPLY);
const GRANTED = reply(STRUCTURED_REPLY, ACK);

const CONTEXT = "base:allocation";

/** The option with its data. */
function list(name: string, ...queries: string[]): Buffer {
  return encodeOption(LIST, metaContextRequest(name, queries));
}

function set(name: string, ...queries: string[]): Buffer {
  return encodeOption(SET, metaContextRequest(name, queries));
}

function go(name: string): Buffer {
  return encodeOption(GO, infoRequest(name));
}

/** What the options are answered when they find the context, and when they find nothing. */
const LISTED = reply(LIST, META_CONTEXT, `00000000${hex(CONTEXT)}`) + reply(LIST, ACK);
const SELECTED = reply(SET, META_CONTEXT, `00000001${hex(CONTEXT)}`) + reply(SET, ACK);
const NONE_LISTED = reply(LIST, ACK);
const NONE_SELECTED = reply(SET, ACK);

/** What the server says to `options` once structured replies are negotiated. */
function answer(...options: Buffer[]): string {
  const { output, end } = converse(DISK, FIXED, ASK, ...options);
  expect(end).toBeUndefined();
  expect(output).toStartWith(GRANTED);
  return output.slice(GRANTED.length);
}

/** How it ends with `options` after structured replies are negotiated. */
function endOf(...options: Buffer[]) {
  return converse(DISK, NO_ZEROES, ASK, ...options).end;
}

/** Queries that find nothing in a list nor for a selection. */
const UNKNOWN_QUERIES: [string, string][] = [
  ["another leaf-name", "base:allocations"],
  ["a part of the leaf-name", "base:alloc"],
  ["other capitals", "BASE:ALLOCATION"],
  ["a space", "base:allocation "],
  ["a byte order mark", "\ufeffbase:allocation"],
  ["an unknown namespace", "qemu:allocation"],
  ["the wildcard of an unknown namespace", "qemu:"],
  ["an unknown namespace in other letters", "x-größe:😀"],
  ["a namespace of nothing", ":allocation"],
  ["no colon", "base"],
  ["nothing", ""],
  ["4096 bytes", `base:${"n".repeat(4091)}`],
];

describe("LIST_META_CONTEXT", () => {
  test.each([
    ["no queries", []],
    ["the context's name", [CONTEXT]],
    ["the wildcard", ["base:"]],
    ["both", ["base:", CONTEXT]],
    ["one of them twice", [CONTEXT, CONTEXT]],
    ["queries for something else besides", ["qemu:", "", CONTEXT, "base:x"]],
  ])("with %s lists the context once, under the number 0", (_, queries) => {
    expect(answer(list("disk", ...queries))).toBe(LISTED);
  });

  test.each(UNKNOWN_QUERIES)("with a query of %s lists nothing, without an error", (_, query) => {
    expect(answer(list("disk", query))).toBe(NONE_LISTED);
  });

  test("lists for the default export and for any name if any will do", () => {
    expect(answer(list(""))).toBe(LISTED);
    expect(converse(ANY_NAME, FIXED, ASK, list("any")).output).toBe(GRANTED + LISTED);
  });

  test("lists as often as it comes", () => {
    expect(answer(list(""), list("disk", "base:"))).toBe(LISTED + LISTED);
  });

  test("selects nothing", () => {
    expect(endOf(list("disk", CONTEXT), go("disk"))).toEqual(transmission("disk", "", STRUCTURED));
  });

  test("leaves alone what is selected", () => {
    expect(endOf(set("disk", CONTEXT), list("", "qemu:"), list("disc"), go("disk"))).toEqual(
      transmission("disk", "", ALLOCATION),
    );
  });
});

describe("SET_META_CONTEXT", () => {
  test.each([
    ["the context's name", [CONTEXT]],
    ["the name twice", [CONTEXT, CONTEXT]],
    ["queries for something else besides", ["qemu:dirty-bitmap:b", "base:", "", CONTEXT, "base:x"]],
  ])("with %s selects the context once, under its number", (_, queries) => {
    expect(answer(set("disk", ...queries))).toBe(SELECTED);
    expect(endOf(set("disk", ...queries), go("disk"))).toEqual(
      transmission("disk", "", ALLOCATION),
    );
  });

  test.each([
    ["no queries", []],
    ["the wildcard", ["base:"]],
    ...UNKNOWN_QUERIES.map(([what, query]): [string, string[]] => [`a query of ${what}`, [query]]),
  ])("with %s selects nothing, without an error", (_, queries) => {
    expect(answer(set("disk", ...queries))).toBe(NONE_SELECTED);
    expect(endOf(set("disk", ...queries), go("disk"))).toEqual(
      transmission("disk", "", STRUCTURED),
    );
  });

  test("lasts through EXPORT_NAME", () => {
    const name = encodeOption(EXPORT_NAME, Buffer.from("disk"));
    expect(endOf(set("disk", CONTEXT), name)).toEqual(transmission("disk", "", ALLOCATION));
  });

  test("lasts through other options, those that fail among them", () => {
    const between = [
      encodeOption(INFO, infoRequest("")),
      encodeOption(STARTTLS),
      go("disc"),
      ASK,
      encodeOption(99),
    ];
    expect(endOf(set("disk", CONTEXT), ...between, go("disk"))).toEqual(
      transmission("disk", "", ALLOCATION),
    );
  });

  test("is not needed", () => {
    expect(endOf(go("disk"))).toEqual(transmission("disk", "", STRUCTURED));
  });
});

describe("a repeated SET_META_CONTEXT", () => {
  const again: [string, Buffer, string][] = [
    ["selects nothing", set("disk"), NONE_SELECTED],
    ["selects the context of another name", set("", CONTEXT), SELECTED],
    [
      "is malformed",
      encodeOption(SET, Buffer.alloc(7)),
      reply(SET, ERR_INVALID, hex("malformed request for metadata contexts")),
    ],
    [
      "names another export",
      set("disc", CONTEXT),
      reply(SET, ERR_UNKNOWN, hex('the export is called "disk"')),
    ],
    [
      "is too long to be looked at",
      encodeOption(SET, Buffer.alloc(16 * 1024 + 1)),
      reply(SET, ERR_TOO_BIG, hex("the option's data is too long")),
    ],
  ];

  test.each(again)("that %s takes away what was selected", (_, option, answered) => {
    expect(answer(set("disk", CONTEXT), option)).toBe(SELECTED + answered);
    expect(endOf(set("disk", CONTEXT), option, go("disk"))).toEqual(
      transmission("disk", "", STRUCTURED),
    );
  });

  test.each(again)("makes up for one before that %s", (_, option, answered) => {
    expect(answer(option, set("disk", CONTEXT))).toBe(answered + SELECTED);
    expect(endOf(option, set("disk", CONTEXT), go("disk"))).toEqual(
      transmission("disk", "", ALLOCATION),
    );
  });
});

describe("a context that is selected", () => {
  const byName = (name: string) => [
    go(name),
    encodeOption(EXPORT_NAME, Buffer.from(name)),
    // After an attempt that failed.
    Buffer.concat([go("disc"), go(name)]),
  ];

  test.each(["disk", ""])("for %p counts for this name and not for the other", (name) => {
    const other = name === "" ? "disk" : "";
    for (const end of byName(name)) {
      expect(endOf(set(name, CONTEXT), end)).toEqual(transmission(name, "", ALLOCATION));
    }
    for (const end of byName(other)) {
      expect(endOf(set(name, CONTEXT), end)).toEqual(transmission(other, "", STRUCTURED));
    }
  });

  test("for one of many names counts for no other", () => {
    for (const [name, negotiated] of [
      ["größe", ALLOCATION],
      ["Größe", STRUCTURED],
    ] as const) {
      const { end } = converse(ANY_NAME, FIXED, ASK, set("größe", CONTEXT), go(name));
      expect(end).toEqual(transmission(name, "", negotiated));
    }
  });
});

describe.each([
  ["LIST_META_CONTEXT", LIST],
  ["SET_META_CONTEXT", SET],
])("%s", (_, option) => {
  const ask = encodeOption(option, metaContextRequest("disk", [CONTEXT]));

  test("is invalid before structured replies are negotiated, and negotiation goes on", () => {
    const invalid = reply(option, ERR_INVALID, hex("structured replies have not been negotiated"));
    expect(converse(DISK, FIXED, ask, ask)).toEqual({ output: invalid.repeat(2), end: undefined });
    expect(converse(DISK, FIXED, ask, go("disk")).end).toEqual(transmission("disk", "", SIMPLE));
    // Nor does what was refused count later.
    expect(converse(DISK, FIXED, ask, ASK, go("disk")).end).toEqual(
      transmission("disk", "", STRUCTURED),
    );
  });

  test("is invalid after structured replies were refused", () => {
    const wrong = encodeOption(STRUCTURED_REPLY, Buffer.from([0]));
    const { output } = converse(DISK, FIXED, wrong, ask);
    expect(output).toEndWith(
      reply(option, ERR_INVALID, hex("structured replies have not been negotiated")),
    );
  });

  test.each([[[]], [[CONTEXT]], [["base:"]]])(
    "of another export with %p is an error, and negotiation goes on",
    (queries) => {
      const wrong = encodeOption(option, metaContextRequest("disc", queries));
      const unknown = reply(option, ERR_UNKNOWN, hex('the export is called "disk"'));
      expect(answer(wrong, list(""))).toBe(unknown + LISTED);
    },
  );
});
