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
  "src/files": ["ffi", "src", "src/process"],
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
    "src/files",
    "src/protocol",
    "src/handshake",
    "src/endpoint",
    "src/endpoint/prepare",
    "src/stream",
  ],
  "src/progress": ["ffi", "src/process", "src/server"],
  "src/captive": ["src", "src/process", "src/files", "src/protocol", "src/server"],
  "src/library": [
    "src",
    "src/protocol",
    "src/process",
    "src/files",
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
    "src/files",
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
  // Its core only: all of it would open standard output, and make that non-blocking.
  "consola/core": ["src/cli"],
  consola: [],
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
    expect(users.length > 0).toBe(rooms.length > 0);
    expect(users.filter((one) => !rooms.includes(one.room))).toEqual([]);
  }
});

/**
 * Where files are made, changed, renamed and removed, and what for. Whoever adds a place says here why it
 * cannot be a file of somebody else's, and tests that.
 */
const CHANGES_FILES: Record<string, { readonly calls: readonly string[]; readonly why: string }> = {
  "ffi/fd.ts": { calls: ["truncate"], why: "the call itself" },
  "ffi/pipe.ts": { calls: ["mkfifo"], why: "the call itself" },
  "ffi/socket.ts": { calls: ["bind"], why: "the call itself: it fails where anything is" },
  "src/captive/new-image.ts": {
    calls: ["chmod", "chown", "mkdtemp", "rename"],
    why: "a fresh folder, and the image that the user has named as the destination, in one step",
  },
  "src/captive/private-folder.ts": {
    calls: ["mkdtemp", "rm", "rmdir"],
    why: "a fresh folder, which goes while it still is that folder",
  },
  "src/check/probes.ts": {
    calls: ["mkfifo", "truncate", "writeFile"],
    why: "in the private folder of the check",
  },
  "src/check/self-test.ts": { calls: ["mkfifo"], why: "in the private folder of the check" },
  "src/cli/report.ts": {
    calls: ["rm"],
    why: "a report of an earlier stream, which has been looked into, or a symbolic link",
  },
  "src/endpoint/prepare/fifo.ts": {
    calls: ["mkfifo", "unlink"],
    why: "where nothing is; removed if it is still the one that was made",
  },
  "src/endpoint/sink/file-sink.ts": {
    calls: ["truncate"],
    why: "the file that the user has opened for the stream, and only to lengthen it",
  },
  "src/files/draft.ts": {
    calls: ["open", "rename", "writeFile"],
    why: "a fresh file (O_EXCL), for a name that has been looked into",
  },
  "src/files/file-id.ts": {
    calls: ["rm", "rmdir", "unlink"],
    why: "what is still the file or the folder that was made here",
  },
};

const CHANGING =
  /(?<![.#\w])(writeFile|appendFile|createWriteStream|unlink|rm|rmdir|rename|mkdir|mkdtemp|mkfifo|link|symlink|copyFile|cp|truncate|chmod|chown|utimes)(?:Sync)?\((?!\d\))|\blibc\.(bind)\(|\b(open)(?:Sync)?\([^;]*?"[wa]x?\+?"|(Bun\.write)|(O_CREAT|O_TRUNC|O_TMPFILE)/g;

test("files are made, changed, renamed and removed only where it is known why", () => {
  const found: Record<string, string[]> = {};
  for (const file of new Bun.Glob("{src,ffi}/**/*.ts").scanSync(ROOT)) {
    const text = readFileSync(join(ROOT, file), "utf8").replaceAll(
      /\/\*.*?\*\/|(?<!:)\/\/[^\n]*/gs,
      "",
    );
    const calls = [...text.matchAll(CHANGING)].map((call) => call.slice(1).find(Boolean) as string);
    if (calls.length > 0) found[file] = [...new Set(calls)].toSorted();
  }
  const known = Object.entries(CHANGES_FILES).map(([file, { calls }]) => [file, [...calls]]);
  expect(found).toEqual(Object.fromEntries(known));
});
