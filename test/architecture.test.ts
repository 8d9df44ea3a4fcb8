import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path";

const ROOT = join(import.meta.dir, "..");

/**
 * Which rooms a room may import, itself aside, from the bottom to the top; ARCHITECTURE.md says the same
 * in words.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  ffi: [],
  "src/errors.ts": [],
  "src/protocol": [],
  "src/size.ts": [],
  "src/messages": ["src/errors.ts", "src/protocol", "src/size.ts"],
  "src/log.ts": ["src/messages"],
  "src/clean-up.ts": [],
  "src/runtime.ts": ["src/errors.ts"],
  "src/handshake": ["src/protocol"],
  "src/process": ["ffi"],
  "src/inherited.ts": ["src/process"],
  "src/files": ["ffi", "src/errors.ts", "src/messages", "src/process"],
  "src/endpoint": ["ffi", "src/process"],
  "src/endpoint/sinks": ["ffi", "src/endpoint"],
  "src/endpoint/sources": ["ffi", "src/endpoint"],
  "src/endpoint/opening": ["ffi", "src/process", "src/endpoint"],
  "src/stream": ["ffi", "src/protocol", "src/messages", "src/endpoint"],
  "src/stream/write": [
    "ffi",
    "src/protocol",
    "src/messages",
    "src/endpoint",
    "src/endpoint/sinks",
    "src/stream",
  ],
  "src/stream/hold": [
    "ffi",
    "src/protocol",
    "src/endpoint",
    "src/endpoint/sinks",
    "src/stream",
    "src/stream/write",
  ],
  "src/stream/read": [
    "ffi",
    "src/protocol",
    "src/messages",
    "src/endpoint",
    "src/endpoint/sources",
    "src/stream",
  ],
  "src/stream/dry-run": [
    "ffi",
    "src/protocol",
    "src/messages",
    "src/endpoint",
    "src/stream",
    "src/stream/write",
    "src/stream/hold",
  ],
  "src/stream.worker.ts": [
    "ffi",
    "src/endpoint",
    "src/endpoint/sinks",
    "src/endpoint/sources",
    "src/stream",
    "src/stream/write",
    "src/stream/read",
    "src/stream/dry-run",
    "src/stream/hold",
  ],
  "src/tls": ["ffi", "src/errors.ts", "src/messages", "src/handshake"],
  "src/net": [
    "ffi",
    "src/errors.ts",
    "src/protocol",
    "src/messages",
    "src/handshake",
    "src/files",
    "src/stream",
    "src/tls",
  ],
  "src/systemd.ts": ["ffi", "src/errors.ts", "src/messages", "src/log.ts"],
  "src/server": [
    "ffi",
    "src/errors.ts",
    "src/protocol",
    "src/messages",
    "src/log.ts",
    "src/clean-up.ts",
    "src/process",
    "src/files",
    "src/endpoint",
    "src/endpoint/opening",
    "src/stream",
    "src/tls",
    "src/net",
  ],
  "src/progress": ["ffi", "src/process", "src/server"],
  "src/captive": [
    "src/errors.ts",
    "src/protocol",
    "src/messages",
    "src/clean-up.ts",
    "src/process",
    "src/files",
    "src/tls",
    "src/net",
    "src/server",
  ],
  "src/library": [
    "src/errors.ts",
    "src/protocol",
    "src/size.ts",
    "src/messages",
    "src/log.ts",
    "src/clean-up.ts",
    "src/runtime.ts",
    "src/process",
    "src/files",
    "src/endpoint",
    "src/endpoint/opening",
    "src/stream",
    "src/tls",
    "src/net",
    "src/systemd.ts",
    "src/server",
    "src/progress",
    "src/captive",
  ],
  "src/index.ts": [
    "src/errors.ts",
    "src/size.ts",
    "src/net",
    "src/server",
    "src/progress",
    "src/library",
  ],
  "src/check": [
    "ffi",
    "src/errors.ts",
    "src/protocol",
    "src/size.ts",
    "src/messages",
    "src/runtime.ts",
    "src/process",
    "src/files",
    "src/endpoint",
    "src/endpoint/opening",
    "src/stream",
    "src/server",
    "src/captive",
    "src/library",
  ],
  "src/reference": [],
  "src/cli": [
    "src/errors.ts",
    "src/messages",
    "src/log.ts",
    "src/process",
    "src/files",
    "src/endpoint",
    "src/net",
    "src/systemd.ts",
    "src/server",
    "src/progress",
    "src/captive",
    "src/library",
    "src/check",
    "src/reference",
  ],
  "src/main.ts": ["src/inherited.ts", "src/cli"],
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
  readonly target: string;
  /** The room of the file, and the one that the import leads to; undefined where it is none of ours. */
  readonly room: string;
  readonly other: string | undefined;
}

/** All files of the program. */
const FILES = [...new Bun.Glob("{src,ffi}/**/*.ts").scanSync(ROOT)].toSorted();

/** A file that stands right in `src/` is a room of its own. */
function roomOf(file: string): string {
  const folder = dirname(file);
  return folder === "src" ? file : folder;
}

/** The imports and re-exports of all files, and what is imported when it is needed. */
function imports(): Import[] {
  return FILES.flatMap((file) => {
    const text = readFileSync(join(ROOT, file), "utf8");
    const found = text.matchAll(
      /^(?:import|export)\b[^;]*?from "([^"]+)"|^import "([^"]+)"|\bimport\(\s*"([^"]+)"/gms,
    );
    return [...found].map((match) => {
      const target = match.slice(1).find(Boolean) as string;
      const ours = target.startsWith(".") && target.endsWith(".ts");
      const other = ours ? roomOf(normalize(join(file, "..", target))) : undefined;
      return { file, target, room: roomOf(file), other };
    });
  });
}

test("every room is in the table", () => {
  const rooms = new Set(FILES.map(roomOf));
  expect([...rooms].toSorted()).toEqual(Object.keys(MAY_IMPORT).toSorted());
});

test("imports between rooms go one way", () => {
  const wrong = imports().filter(({ room, other }) => {
    return other !== undefined && other !== room && !MAY_IMPORT[room]?.includes(other);
  });
  expect(wrong).toEqual([]);
});

test("no room imports one that imports it, directly or not", () => {
  const reached = (room: string, seen = new Set<string>()): Set<string> => {
    for (const other of MAY_IMPORT[room] ?? []) {
      if (!seen.has(other)) reached(other, seen.add(other));
    }
    return seen;
  };
  expect(Object.keys(MAY_IMPORT).filter((room) => reached(room).has(room))).toEqual([]);
});

test("no files import each other in a circle", () => {
  const graph = new Map<string, string[]>();
  for (const { file, target, other } of imports()) {
    if (other === undefined) continue;
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
  const used = new Set(imports().map((one) => `${one.room} ${one.other}`));
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

/** What makes settings of options, and the only files that may use it. */
const RESOLVING: Record<string, readonly string[]> = {
  parseSize: ["src/library/options.ts"],
  parseEndpoint: ["src/library/options.ts"],
  loadCertificates: ["src/library/options.ts"],
  DEFAULTS: ["src/library/several.ts", "src/cli/options.ts"],
  resolveServe: [
    "src/library/serve.ts",
    "src/library/several.ts",
    "src/check/client.ts",
    "src/check/self-test.ts",
    "src/cli/serve.ts",
  ],
  resolveRun: ["src/library/run.ts", "src/library/several.ts", "src/cli/run.ts"],
};

test("options are resolved in one place", () => {
  for (const [name, files] of Object.entries(RESOLVING)) {
    const users = FILES.filter((file) => {
      const text = readFileSync(join(ROOT, file), "utf8");
      return new RegExp(`^import\\b[^;]*\\b${name}\\b[^;]* from "\\.`, "m").test(text);
    });
    expect({ name, users: users.toSorted() }).toEqual({ name, users: [...files].toSorted() });
  }
});

/**
 * Types of TypeScript's own that every reader knows (lib.es5.d.ts and lib.esnext.disposable.d.ts); values
 * that hide a global one are the linter's. Names of the NBD specification, such as Request, stay.
 */
const TYPES_OF_THE_LANGUAGE = [
  ...["Awaited", "Partial", "Required", "Readonly", "Record", "Pick", "Omit", "Exclude", "Extract"],
  ...[
    "NonNullable",
    "Parameters",
    "ConstructorParameters",
    "ReturnType",
    "InstanceType",
    "NoInfer",
  ],
  ...["ThisType", "ThisParameterType", "OmitThisParameter", "PropertyKey", "PropertyDescriptor"],
  ...[
    "Uppercase",
    "Lowercase",
    "Capitalize",
    "Uncapitalize",
    "ArrayLike",
    "PromiseLike",
    "Iterator",
  ],
  ...[
    "Iterable",
    "IteratorResult",
    "AsyncIterator",
    "AsyncIterable",
    "Generator",
    "AsyncGenerator",
  ],
  ...["Disposable", "AsyncDisposable", "ReadonlyArray", "ReadonlyMap", "ReadonlySet"],
  ...[
    "Array",
    "Boolean",
    "Date",
    "Error",
    "Function",
    "Map",
    "Number",
    "Object",
    "Promise",
    "Proxy",
  ],
  ...["RegExp", "Set", "String", "Symbol", "WeakMap", "WeakRef", "WeakSet"],
];

test("no type hides one of the language's own", () => {
  const all = new Bun.Glob("{src,ffi,test,bench,demo,packaging}/**/*.ts").scanSync(ROOT);
  const hidden = [...all].flatMap((file) => {
    const text = readFileSync(join(ROOT, file), "utf8");
    const declared = text.matchAll(
      /^ *(?:export )?(?:declare )?(?:abstract )?(?:interface|type|class|enum) (\w+)\b/gm,
    );
    const names = [...declared].map(([, name]) => name as string);
    const imported = text.matchAll(/^import [^;]*?\{([^}]*)\}[^;]*? from /gms);
    for (const [, list = ""] of imported) {
      names.push(...list.split(",").map((one) => /(\w+)\s*$/.exec(one)?.[1] ?? ""));
    }
    return names
      .filter((name) => TYPES_OF_THE_LANGUAGE.includes(name))
      .map((name) => `${file}: ${name}`);
  });
  expect(hidden).toEqual([]);
});

/**
 * Where files are made, changed, renamed and removed, and what for. Whoever adds a place says here why it
 * cannot be a file of somebody else's, and tests that.
 */
const CHANGES_FILES: Record<string, { readonly calls: readonly string[]; readonly why: string }> = {
  "ffi/fd.ts": { calls: ["truncate"], why: "the call itself" },
  "ffi/constants.ts": { calls: ["O_CREAT", "O_TMPFILE"], why: "the numbers themselves" },
  "ffi/file.ts": { calls: ["O_TMPFILE"], why: "a file without a name" },
  "ffi/pipe.ts": { calls: ["mkfifo"], why: "the call itself" },
  "ffi/socket.ts": { calls: ["bind"], why: "the call itself: it fails where anything is" },
  "src/captive/new-image.ts": {
    calls: ["chmod", "chown", "link", "mkdtemp", "rename"],
    why: "a fresh folder, and the image that the user has named as the destination, in one step: a new one by link(2)",
  },
  "src/captive/private-folder.ts": {
    calls: ["mkdtemp", "rm", "rmdir"],
    why: "a fresh folder, which goes while it still is that folder",
  },
  "src/check/self-test.ts": {
    calls: ["mkfifo", "writeFile"],
    why: "a named pipe in the private folder of the check",
  },
  "src/cli/report.ts": {
    calls: ["rm"],
    why: "a report of an earlier stream, which has been looked into, or a symbolic link",
  },
  "src/endpoint/opening/fifo.ts": {
    calls: ["mkfifo", "unlink"],
    why: "where nothing is; removed if it is still the one that was made",
  },
  "src/endpoint/sinks/file-sink.ts": {
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
  "src/files/unnamed.ts": {
    calls: ["O_CREAT", "truncate", "unlink"],
    why: "a fresh file (O_EXCL) with a name that no other has, and that file only",
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

/** What other programs call their options, and what our rooms have to do with these. */
const OTHERS = /--output=json|qemu-img --help|nbdcopy --synchronous|unzip -p|kill -s/g;

/** How the command line names an option: `--pad`, `size=`, ` -p`. */
const FLAG = /--[a-z]|\b(?:pipe|write|read|size|window|spool)=|(?:^"|[ (])-[UpiePs]\b/;

test("only the command line, and its check, name options of the command line", () => {
  const speakers = /^src\/(cli|check|reference)\//;
  const found = FILES.filter((file) => !speakers.test(file)).flatMap((file) => {
    const text = readFileSync(join(ROOT, file), "utf8").replaceAll(
      /\/\*.*?\*\/|(?<!:)\/\/[^\n]*/gs,
      "",
    );
    const literals = text.match(/"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g) ?? [];
    const flags = literals.filter((literal) => FLAG.test(literal.replaceAll(OTHERS, "")));
    return flags.map((literal) => `${file}: ${literal}`);
  });
  expect(found).toEqual([]);
});

test("the stream thread loads no words but those for clients", () => {
  const loaded = new Set<string>();
  const load = (file: string) => {
    if (loaded.has(file)) return;
    loaded.add(file);
    const text = readFileSync(join(ROOT, file), "utf8");
    for (const [, target = ""] of text.matchAll(
      /^(?:import|export)\b(?! type\b)[^;]*?from "(\.[^"]+)"/gms,
    )) {
      load(normalize(join(file, "..", target)));
    }
  };
  load("src/stream.worker.ts");
  const words = [...loaded].filter((file) => file.startsWith("src/messages/"));
  expect(words).toEqual(["src/messages/client-text.ts"]);
});

/** Folders of test/ that mirror none of the program's, and what they have in its place. */
const OTHER_FOLDERS: Record<string, string> = {
  "test/bench": "the figures of bench/",
  "test/e2e": "real clients and the whole program",
  "test/fuzz": "hostile conversations beside a model",
  "test/soak": "what runs for hours, by hand",
  "test/support": "what tests share",
};

/** About the whole project. */
const WHOLE = new Set(["test/architecture.test.ts", "test/project.test.ts"]);

const FLOW = ["clients", "data", "oracle", "reconnect", "requests"];

/**
 * Tests that have no module's name, because what they test is what several modules do together: the stream
 * by what its clients do, through the engine, and the command line by what it answers.
 */
const SUBJECTS: Record<string, readonly string[]> = {
  "test/stream/write": [...FLOW, "extended", "sink", "spool-oracle", "structured"],
  "test/stream/read": [...FLOW, "end", "extended", "source"],
  "test/stream/dry-run": ["oracle"],
  "test/stream/hold": ["end", "oracle", "reconnect", "requests"],
  "test/cli": ["certificates", "reference", "setup", "usage"],
};

test("tests stand where what they test stands, and have its name, with what of it they test behind that", () => {
  const modules = new Set(FILES.map((file) => file.replace(/\.ts$/, "")));
  const wrong = [...new Bun.Glob("test/**/*.test.ts").scanSync(ROOT)].filter((file) => {
    const folder = dirname(file);
    if (folder in OTHER_FOLDERS || WHOLE.has(file)) return false;
    const room = folder === "test/ffi" ? "ffi" : folder.replace("test", "src");
    const name = basename(file, ".test.ts");
    if (SUBJECTS[folder]?.includes(name)) return false;
    // `socket-address` is about addresses in `socket.ts`.
    const words = name.split("-");
    return !words.some((_, i) => modules.has(join(room, words.slice(0, i + 1).join("-"))));
  });
  expect(wrong).toEqual([]);
});

test("every folder and every test that is listed as no mirror of the program is there", () => {
  const named = Object.entries(SUBJECTS).flatMap(([folder, names]) =>
    names.map((name) => `${folder}/${name}.test.ts`),
  );
  const there = [...Object.keys(OTHER_FOLDERS), ...named].map((path) => [
    path,
    existsSync(join(ROOT, path)),
  ]);
  expect(there.filter(([, exists]) => exists !== true)).toEqual([]);
});
