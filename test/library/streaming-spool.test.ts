/** Streams with a spool that come to nothing in a program that goes on: no descriptor of them is left open. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { serve, type ServeOptions, type UserError } from "../../src/index.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { bounded, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());
const path = folder.file("nbd.sock");
const listen = { kind: "unix", path } as const;
writeFileSync(folder.file("mine"), "a regular file, which is no sink");

/** What this process has open, without what the runtime opens for itself now and then. */
function descriptors(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

const spools = () => descriptors().filter((name) => name.startsWith(`${folder.path}/`));

/** Its error's code. */
const failing = (stream: PromiseLike<unknown>) =>
  bounded(
    Promise.resolve(stream).then(
      () => "complete",
      (error: unknown) => (error as UserError).code ?? (error as Error).message,
    ),
    "the end",
  );

/** Runs an attempt again and again. */
async function leavesNothing(attempt: () => Promise<string>, code: string): Promise<void> {
  // The runtime opens some of its own at first.
  for (let i = 0; i < 2; i++) expect(await attempt()).toBe(code);
  await eventually(() => spools().length === 0, "the spools to be closed");
  const before = descriptors().length;
  for (let i = 0; i < 8; i++) expect(await attempt()).toBe(code);
  await eventually(() => spools().length === 0, "the spools to be closed");
  expect(descriptors().length).toBeLessThan(before + 4);
}

const COMMON = { listen, size: "1M", spool: folder.path } as const;

const EARLY: [string, ServeOptions, string][] = [
  ["there is no such folder", { ...COMMON, pipe: "/dev/null", spool: "/no/where" }, "ERR_FILE"],
  ["the sink cannot be used", { ...COMMON, pipe: folder.file("mine") }, "ERR_PIPE"],
  ["the sink cannot be used", { ...COMMON, pipe: folder.file("mine"), hold: true }, "ERR_PIPE"],
  [
    "nobody can listen there",
    { ...COMMON, pipe: "/dev/null", listen: { kind: "unix", path: "/no/s" } },
    "ERR_LISTEN",
  ],
];

test.each(EARLY)("a stream that cannot begin, because %s", async (_, options, code) => {
  await leavesNothing(() => failing(serve(options)), code);
});

test("streams of which one cannot begin", async () => {
  const streams = [
    { exportName: "a", pipe: "/dev/null", size: "1M", spool: folder.path },
    { exportName: "b", pipe: "exec:cat", size: "1M", spool: folder.path, hold: true },
    { exportName: "c", pipe: folder.file("mine"), size: "1M", spool: folder.path, hold: true },
  ];
  await leavesNothing(() => failing(serve({ listen, streams })), "ERR_PIPE");
});

/** Starts a stream and lets a client write to it. @param leave it says that it is done */
async function written(options: ServeOptions, leave: boolean): Promise<string> {
  const stream = serve(options);
  const ended = failing(stream);
  const listening = Promise.withResolvers<void>();
  stream.on("listening", () => listening.resolve());
  await bounded(Promise.race([listening.promise, ended]), "the server");
  try {
    using client = await RawClient.transmission(path);
    await client.write(65536, Buffer.alloc(65536, 7));
    if (leave) client.disconnect();
    // What has been sent gets there.
    if (leave) await client.closed();
  } catch {
    // There is no server any more.
  }
  return await ended;
}

const HELD = { ...COMMON, hold: true } as const;

test("a stream that is held and whose sink cannot be opened at its end", async () => {
  const options = { ...HELD, pipe: "tcp:127.0.0.1:1" };
  await leavesNothing(() => written(options, true), "ERR_TRUNCATED");
});

test("a stream that is held and whose client dies", async () => {
  await leavesNothing(
    () => written({ ...HELD, pipe: "exec:cat > /dev/null" }, false),
    "ERR_TRUNCATED",
  );
});

test("a stream that is held and complete", async () => {
  await leavesNothing(() => written({ ...HELD, pipe: "exec:cat > /dev/null" }, true), "complete");
});

test("a stream thread that cannot start", async () => {
  for (const hold of [false, true]) {
    const options = { ...COMMON, hold, pipe: "/dev/null" };
    const workerUrl = new URL("file:///no-such-worker.ts");
    const attempt = async () => {
      const code = await failing(serve({ ...options, workerUrl }));
      return code === "complete" ? code : "failed";
    };
    await leavesNothing(attempt, "failed");
  }
});

test.each([
  { when: "before the first client", name: "Engine", file: "engine", method: "turn" },
  { when: "with a client", name: "Connection", file: "connection", method: "advance" },
])("a stream thread that dies of a bug $when", async ({ name, file, method }) => {
  const module = (path: string) => JSON.stringify(join(import.meta.dir, "../../src", path));
  const script = folder.file(`mortal-${file}.ts`);
  writeFileSync(
    folder.file(`first-${file}.ts`),
    `import { ${name} } from ${module(`stream/${file}.ts`)};
     const { ${method} } = ${name}.prototype;
     let calls = 0;
     ${name}.prototype.${method} = function (...args) {
       if (++calls > 1) throw new Error("boom");
       return ${method}.apply(this, args);
     };`,
  );
  // Both are there before the plan comes.
  writeFileSync(script, `import "./first-${file}.ts";\nimport ${module("stream.worker.ts")};\n`);
  for (const hold of [false, true]) {
    const options = { ...COMMON, hold, pipe: "exec:cat > /dev/null" };
    const attempt = () => written({ ...options, workerUrl: new URL(`file://${script}`) }, false);
    await leavesNothing(attempt, "boom");
  }
});
