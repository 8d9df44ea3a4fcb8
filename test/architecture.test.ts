import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join, normalize } from "node:path";

const ROOT = join(import.meta.dir, "..");

/** Which rooms a room may import, itself aside; ARCHITECTURE.md says the same in words. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  ffi: [],
  "src/protocol": [],
  "src/handshake": ["src/protocol"],
  "src/process": ["ffi"],
  "src/endpoint": ["ffi"],
  "src/endpoint/sink": ["ffi", "src/endpoint"],
  "src/endpoint/source": ["ffi", "src/endpoint"],
  "src/endpoint/prepare": ["ffi", "src/process", "src/endpoint"],
  "src/stream": ["ffi", "src/protocol", "src/endpoint"],
  "src/stream/write": ["ffi", "src/protocol", "src/endpoint", "src/endpoint/sink", "src/stream"],
  "src/stream/read": ["ffi", "src/protocol", "src/endpoint", "src/endpoint/source", "src/stream"],
  "src/stream/survey": ["ffi", "src/protocol", "src/stream", "src/stream/write"],
  "src/worker": [
    "ffi",
    "src/protocol",
    "src/endpoint",
    "src/endpoint/sink",
    "src/endpoint/source",
    "src/stream",
    "src/stream/write",
    "src/stream/read",
    "src/stream/survey",
  ],
  "src/server": [
    "ffi",
    "src",
    "src/process",
    "src/protocol",
    "src/handshake",
    "src/endpoint",
    "src/endpoint/prepare",
    "src/stream",
  ],
  "src/progress": ["ffi", "src/process", "src/server"],
  "src/captive": ["src", "src/process", "src/protocol", "src/server"],
  "src/library": [
    "src",
    "src/protocol",
    "src/process",
    "src/endpoint",
    "src/endpoint/prepare",
    "src/stream",
    "src/server",
    "src/captive",
    "src/progress",
  ],
  "src/manual": [],
  "src/check": [
    "ffi",
    "src",
    "src/process",
    "src/protocol",
    "src/endpoint",
    "src/endpoint/prepare",
    "src/stream",
    "src/server",
    "src/captive",
    "src/library",
  ],
  "src/cli": [
    "src",
    "src/manual",
    "src/check",
    "src/library",
    "src/endpoint",
    "src/endpoint/prepare",
    "src/process",
    "src/progress",
    "src/captive",
    "src/server",
  ],
};

/** Packages and built-in modules that only these rooms may import. */
const ONLY_IN: Record<string, readonly string[]> = {
  "bun:ffi": ["ffi"],
  citty: ["src/cli"],
  consola: ["src/cli"],
};

interface Import {
  readonly file: string;
  readonly room: string;
  readonly target: string;
}

function imports(): Import[] {
  const found: Import[] = [];
  for (const room of Object.keys(MAY_IMPORT)) {
    const names = readdirSync(join(ROOT, room)).filter((name) => name.endsWith(".ts"));
    for (const name of names) {
      const file = join(room, name);
      const text = readFileSync(join(ROOT, file), "utf8");
      for (const [, target] of text.matchAll(/^(?:import|export)\b[^;]*?from "([^"]+)"/gms)) {
        found.push({ file, room, target: target as string });
      }
    }
  }
  return found;
}

/** The room that an import leads to; undefined where it is none of ours. */
function otherRoom({ file, target }: Import): string | undefined {
  if (!target.startsWith(".") || target.endsWith(".json")) return undefined;
  return normalize(join(file, "..", target, ".."));
}

test("imports between rooms go one way", () => {
  const wrong = imports().filter((one) => {
    const other = otherRoom(one);
    return other !== undefined && other !== one.room && !MAY_IMPORT[one.room]?.includes(other);
  });
  expect(wrong).toEqual([]);
});

test("no files import each other in a circle", () => {
  const graph = new Map<string, string[]>();
  for (const { file, target } of imports()) {
    if (!target.startsWith(".") || target.endsWith(".json")) continue;
    graph.set(file, [...(graph.get(file) ?? []), normalize(join(file, "..", target))]);
  }
  // A file that imports nothing more can be taken away, and so on; only circles are left.
  for (let before = -1; before !== graph.size;) {
    before = graph.size;
    for (const [file, targets] of graph) {
      if (!targets.some((target) => graph.has(target))) graph.delete(file);
    }
  }
  expect([...graph.keys()]).toEqual([]);
});

test("no room may import what it does not", () => {
  const used = new Set(imports().map((one) => `${one.room} ${otherRoom(one)}`));
  const pairs = Object.entries(MAY_IMPORT).flatMap(([room, others]) =>
    others.map((other) => `${room} ${other}`),
  );
  expect(pairs.filter((pair) => !used.has(pair))).toEqual([]);
});

test("bun:ffi, citty and consola are imported in one room each", () => {
  const all = imports();
  for (const [target, rooms] of Object.entries(ONLY_IN)) {
    const users = all.filter((one) => one.target === target);
    expect(users.length).toBeGreaterThan(0);
    expect(users.filter((one) => !rooms.includes(one.room))).toEqual([]);
  }
});
