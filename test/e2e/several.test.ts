/** Several streams in one server, with real clients. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { unixAddress } from "../../ffi/socket.ts";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { digestOf } from "../support/client-commands.ts";
import { type Image, pseudoRandom, qcow2Image } from "../support/images.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { RawClient, turnedAway } from "../support/nbd-client.ts";
import { command, eventually, start } from "../support/program.ts";
import { KEPT, SeveralTrial, type Words, writeWhole } from "../support/several-trial.ts";
import { accepted, listening } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";
import { encodeOption } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** Disks of different sizes and contents, by the names of their exports. */
const DISKS = new Map(
  ["vda", "vdb", "vdc", "vdd"].map((name, i) => [
    name,
    pseudoRandom((i + 1) * MiB - 512 * i, i + 1),
  ]),
);
const disk = (name: string) => DISKS.get(name) as Buffer;
const path = (name: string) => folder.file(`${name}.raw`);
let images: Map<string, Image>;
let pki: Certificates;
beforeAll(async () => {
  for (const [name, data] of DISKS) writeFileSync(path(name), data);
  images = new Map();
  for (const name of ["vda", "vdb"]) {
    images.set(name, await qcow2Image(folder.file(`${name}.qcow2`), 4 * MiB));
  }
  pki = makeCertificates(folder.path);
});

/** Two streams into files of their names. */
const TWO: Words = () => [`pipe=${KEPT}`, "-e", "vda", "-e", "vdb"];
const twoWith =
  (...words: string[]): Words =>
  (trial) => [...TWO(trial), ...words];

/** The last line about a stream. */
function lineOf(stderr: string, name: string): string {
  const lines = stderr.split("\n").filter((line) => line.includes(` ${name}: `));
  return lines.at(-1) ?? "";
}

describe("clients of serve", () => {
  test("are four nbdcopy at a time, and each has its own stream", async () => {
    const words = [...DISKS].flatMap(([name, { length }]) => ["-e", name, `size=${length}`]);
    await using trial = await SeveralTrial.serve(() => [`pipe=${KEPT}`, ...words]);
    await Promise.all(
      [...DISKS.keys()].map((name) => command(["nbdcopy", path(name), trial.uri(name)])),
    );
    const { stderr } = await trial.endsWith(0);
    for (const [name, data] of DISKS) {
      expect(trial.output(name).equals(data), name).toBeTrue();
      expect(lineOf(stderr, name)).toMatch(new RegExp(`${data.length} bytes .*: complete$`));
    }
    expect(stderr).toEndWith("nbd-streaming: 4 of 4 streams complete\n");
  });

  test("find all streams by a list, and each by its name, until it is over", async () => {
    const words = ["-e", "vda", "pipe=/dev/null", "size=1M", "-e", "vdb", `read=${path("vdb")}`];
    await using trial = await SeveralTrial.serve(() => words);
    const list = async () => {
      const { exports } = JSON.parse(
        await command(["nbdinfo", "--list", "--json", trial.uri()]),
      ) as { exports: { "export-name": string; "export-size": number; is_read_only: boolean }[] };
      return exports.map((one) => [one["export-name"], one["export-size"], one.is_read_only]);
    };
    const vdb = ["vdb", disk("vdb").length, true];
    expect(await list()).toEqual([["vda", MiB, false], vdb]);
    expect(await command(["nbdinfo", "--size", trial.uri("vda")])).toBe(`${MiB}\n`);
    expect(await command(["nbdinfo", "--size", trial.uri("vdb")])).toBe(`${disk("vdb").length}\n`);
    await using lost = start(["nbdinfo", "--size", trial.uri()]);
    expect((await lost.ended()).stderr).toContain("no export named ''");
    await command(["nbdcopy", path("vda"), trial.uri("vda")]);
    await trial.program.saying(/vda: .*complete/);
    expect(await list()).toEqual([vdb]);
    await command(["nbdcopy", trial.uri("vdb"), folder.file("copy")]);
    await trial.endsWith(0);
    expect(readFileSync(folder.file("copy")).equals(disk("vdb"))).toBeTrue();
  });

  test("read one stream and write another at the same time", async () => {
    const words = ["-e", "vda", `pipe=${KEPT}`, "-e", "vdb", `read=exec:cat ${path("vdb")}`];
    const sized = [...words, `size=${disk("vdb").length}`];
    await using trial = await SeveralTrial.serve(() => sized);
    await Promise.all([
      command(["nbdcopy", path("vda"), trial.uri("vda")]),
      command(["nbdcopy", trial.uri("vdb"), folder.file("read")]),
    ]);
    await trial.endsWith(0);
    expect(trial.output("vda").equals(disk("vda"))).toBeTrue();
    expect(readFileSync(folder.file("read")).equals(disk("vdb"))).toBeTrue();
  });

  test("choose their stream inside TLS", async () => {
    const tls = ["--tls=require", `--tls-certificates=${pki.all}`];
    await using trial = await SeveralTrial.serve(twoWith(...tls));
    using open = await RawClient.negotiating(trial.socket);
    await using refused = start(["nbdinfo", "--size", trial.uri("vda")]);
    expect((await refused.ended()).status).not.toBe(0);
    await Promise.all(
      ["vda", "vdb"].map((name) => {
        const uri = trial.uri(name).replace("nbd+", "nbds+");
        return command(["nbdcopy", path(name), `${uri}&tls-certificates=${pki.all}`]);
      }),
    );
    open[Symbol.dispose]();
    await trial.endsWith(0);
    for (const name of ["vda", "vdb"]) {
      expect(trial.output(name).equals(disk(name)), name).toBeTrue();
      expect(trial.isWhole(name)).toBeTrue();
    }
  });

  test("come in by a socket that systemd has made", async () => {
    const where = folder.file("activated.sock");
    const listener = listening(unixAddress(where));
    try {
      await using trial = await SeveralTrial.serve(TWO, {
        shell: "export LISTEN_FDS=1 LISTEN_PID=$$; ",
        passed: listener.fd,
        listen: [],
      });
      for (const name of ["vda", "vdb"]) {
        using client = await RawClient.transmission(where, name);
        await writeWhole(client, disk(name));
      }
      await trial.endsWith(0);
      expect(trial.output("vdb").equals(disk("vdb"))).toBeTrue();
    } finally {
      listener.close();
    }
  });

  test("are one with --single, and the other streams are truncated", async () => {
    const where = folder.file("single.sock");
    const listener = listening(unixAddress(where));
    try {
      using client = await RawClient.connect(where);
      using connection = accepted(listener);
      const words: Words = () => ["serve", ...TWO(undefined as never), "--single"];
      const options = { line: 'exec "$@" <&3 >&3 3<&-', passed: connection.fd };
      await using trial = SeveralTrial.started(words, options);
      await client.receive(18);
      client.send(Buffer.from([0, 0, 0, 3]));
      client.send(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from("vdb")));
      await client.receive(10);
      await writeWhole(client, disk("vdb"));
      const { stderr } = await trial.endsWith(4);
      expect(lineOf(stderr, "vdb")).toEndWith(": complete");
      expect(lineOf(stderr, "vda")).toContain("has not moved the stream");
      expect(trial.output("vdb").equals(disk("vdb"))).toBeTrue();
      expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, true]);
    } finally {
      listener.close();
    }
  });

  test("are as many as --max-connections says, of all streams together", async () => {
    await using trial = await SeveralTrial.serve(twoWith("--max-connections", "2", "-v"));
    using vda = await trial.clientOf("vda");
    using vdb = await trial.clientOf("vdb");
    await turnedAway(trial.socket);
    await trial.program.saying(/a connection was refused: 2 are open \(--max-connections\)/);
    await writeWhole(vda, disk("vda"));
    await writeWhole(vdb, disk("vdb"));
    await trial.endsWith(0);
  });

  test("find its process id in a file", async () => {
    const words: Words = (trial) => [...TWO(trial), "-P", trial.ownFile("pid")];
    await using trial = await SeveralTrial.serve(words);
    expect(readFileSync(trial.ownFile("pid"), "utf8")).toBe(`${trial.program.process.pid}\n`);
    trial.program.process.kill("SIGTERM");
    await trial.endsWith(143);
  });
});

describe("the command of run", () => {
  const run = (words: readonly string[], ...captive: string[]) =>
    SeveralTrial.started((trial) => ["run", ...TWO(trial), ...words, "--", ...captive]);

  test("is qemu-img for each of two images, at once", async () => {
    const convert = (name: string) =>
      `qemu-img convert -n -f qcow2 -O raw ${folder.file(`${name}.qcow2`)} "$nbd_${name}"`;
    const line = `${convert("vda")} & a=$!; ${convert("vdb")} && wait $a`;
    await using trial = run(["size=4M"], line);
    await trial.endsWith(0);
    for (const name of ["vda", "vdb"]) {
      expect(digestOf(trial.output(name)), name).toBe(images.get(name)?.sha256 as string);
    }
  });

  test("finds each stream by a variable in its words", async () => {
    const words = ["sh", "-c", 'nbdcopy "$0" "$1" && nbdcopy "$2" "$3"'];
    await using trial = run([], ...words, path("vda"), "$uri_vda", path("vdb"), "${uri_vdb}");
    await trial.endsWith(0);
    expect(trial.output("vda").equals(disk("vda"))).toBeTrue();
    expect(trial.output("vdb").equals(disk("vdb"))).toBeTrue();
  });

  test("finds streams whose names are no variables by its server", async () => {
    const names = ["disk-1", "a b/c"];
    const captive = names.map((name, i) => {
      const uri = `"nbd+unix:///${encodeURIComponent(name)}?socket=$unixsocket"`;
      return `nbdcopy ${path(i === 0 ? "vda" : "vdb")} ${uri}`;
    });
    const sinks = names.flatMap((name, i) => ["-e", name, `pipe=exec:cat > out${i}`]);
    await using trial = SeveralTrial.started(() => [
      ...["run", ...sinks, "--"],
      `env | grep -c '^uri_' > variables; ${captive.join(" && ")}`,
    ]);
    await trial.endsWith(0);
    expect(trial.output("out0").equals(disk("vda"))).toBeTrue();
    expect(trial.output("out1").equals(disk("vdb"))).toBeTrue();
    expect(String(trial.output("variables"))).toBe("0\n");
  });

  test("has failed for all streams, with its own status", async () => {
    await using trial = run([], `nbdcopy ${path("vda")} "$uri_vda"; exit 7`);
    const { stderr } = await trial.endsWith(7);
    for (const name of ["vda", "vdb"]) expect(lineOf(stderr, name)).toContain("truncated: ");
    expect(stderr).toEndWith("nbd-streaming: error: 0 of 2 streams complete\n");
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, false]);
  });

  test("that fails before it connects is told each stream's own variable", async () => {
    await using trial = run([], "exit 7");
    const { stderr } = await trial.endsWith(7);
    for (const name of ["vda", "vdb"]) {
      expect(lineOf(stderr, name)).toContain(`whether it is given $nbd_${name} (or $uri_${name})`);
    }
  });

  test("has left a stream without a client, which is named", async () => {
    await using trial = run([], `nbdcopy ${path("vda")} "$uri_vda"`);
    const { stderr } = await trial.endsWith(4);
    expect(lineOf(stderr, "vda")).toEndWith(": complete");
    expect(lineOf(stderr, "vdb")).toMatch(/truncated: .*vdb/);
    expect(stderr).toEndWith("nbd-streaming: error: 1 of 2 streams complete\n");
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([true, false]);
  });

  test("is ended with all that it has started by a signal", async () => {
    await using trial = run([], `nbdcopy ${path("vda")} "$uri_vda"; touch half; sleep 600`);
    await eventually(() => existsSync(trial.file("half")), "the first stream");
    trial.program.process.kill("SIGTERM");
    const { stderr } = await trial.endsWith(143);
    expect(lineOf(stderr, "vdb")).toContain("truncated: ended by SIGTERM");
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, false]);
  });

  test("goes on after one stream has failed, and its status is the program's", async () => {
    const broken = ["-e", "vdc", "pipe=exec:exit 3", "size=64M"];
    const copy = `nbdcopy ${path("vda")} "$uri_vda"; nbdcopy ${path("vdb")} "$uri_vdb"`;
    await using trial = run(broken, `nbdcopy ${path("vdd")} "$uri_vdc"; ${copy}`);
    const { stderr } = await trial.endsWith(4);
    expect(lineOf(stderr, "vdc")).toMatch(/truncated: .*status 3/);
    expect(trial.output("vdb").equals(disk("vdb"))).toBeTrue();
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([true, true]);
    expect(stderr).toEndWith("nbd-streaming: error: 2 of 3 streams complete\n");
  });
});

describe("options for all streams", () => {
  test("are only for those of their direction", async () => {
    const common = ["--exact", "--reader-timeout=30", "--writer-timeout=40"];
    const words = ["-e", "vda", `pipe=${KEPT}`, "-e", "vdb", `read=${path("vdb")}`];
    await using trial = SeveralTrial.started(() => [
      ...["run", ...common, ...words, "--"],
      `nbdcopy ${path("vda")} "$uri_vda" && nbdcopy "$uri_vdb" copy`,
    ]);
    await trial.endsWith(0);
    expect(trial.output("vda").equals(disk("vda"))).toBeTrue();
    expect(trial.output("copy").equals(disk("vdb"))).toBeTrue();
  });

  test.each([
    [["-e", "vda", "pipe=x", "--exact"], /^vda: --exact needs read=/],
    [["-e", "vda", "pipe=x", "--writer-timeout=1"], /^vda: --writer-timeout needs read=/],
    [["-e", "", "pipe=x"], /^each of several streams needs a name: -e NAME$/],
    [["-e", "vda", "disk.qcow2"], /^vda: unknown argument disk.qcow2: /],
    [["-e", "vda", "pipe=x", "pipe=y"], /^vda: pipe= is given twice$/],
    [["-e", "vda", "pipe=x", "size=1", "--progress-fd=1"], /^vdb: --progress-fd needs size=/],
  ])("are refused as a stream's own: %p", async (words, message) => {
    const other = ["-e", "vdb", "pipe=/dev/null"];
    await using trial = SeveralTrial.started(() => ["serve", ...words, ...other]);
    const { stderr } = await trial.endsWith(2);
    expect(stderr.trimEnd().replace("nbd-streaming: error: ", "")).toMatch(message);
  });
});

describe("an end", () => {
  test("of one stream by its client's death leaves the other to be complete", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    {
      using vda = await trial.clientOf("vda");
      expect(await vda.write(0, disk("vda").subarray(0, MiB / 2))).toBe(0);
    }
    await trial.program.saying(/vda: .*truncated: a client left without NBD_CMD_DISC/);
    using vdb = await trial.clientOf("vdb");
    await writeWhole(vdb, disk("vdb"));
    const { stderr } = await trial.endsWith(4);
    expect(stderr).toEndWith("nbd-streaming: error: 1 of 2 streams complete\n");
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, true]);
    expect(trial.output("vdb").equals(disk("vdb"))).toBeTrue();
  });

  test("of one stream is that of all with --fail-fast", async () => {
    await using trial = await SeveralTrial.serve(twoWith("--fail-fast"));
    using vdb = await trial.clientOf("vdb");
    expect(await vdb.write(0, disk("vdb").subarray(0, MiB))).toBe(0);
    {
      using vda = await trial.clientOf("vda");
      expect(await vda.write(0, disk("vda").subarray(0, MiB / 2))).toBe(0);
    }
    const { stderr } = await trial.endsWith(4);
    expect(lineOf(stderr, "vdb")).toContain("because vda has failed (--fail-fast)");
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, false]);
  });

  test("of one stream with --fail-fast does not wait for a reader of another that is stopped", async () => {
    const words: Words = (trial) => [
      ...["-e", "vda", `pipe=${trial.ownFile("fifo")}`, "-e", "vdb", `pipe=${KEPT}`],
      "--fail-fast",
    ];
    await using trial = await SeveralTrial.serve(words);
    await using reader = start([
      "sh",
      "-c",
      'exec 3< "$0"; echo open >&2; exec sleep 600',
      trial.ownFile("fifo"),
    ]);
    await reader.saying(/open/);
    using vda = await trial.clientOf("vda");
    await writeWhole(vda, disk("vda").subarray(0, 4096));
    await vda.closed();
    {
      using vdb = await trial.clientOf("vdb");
      expect(await vdb.write(0, disk("vdb").subarray(0, 4096))).toBe(0);
    }
    const { stderr } = await trial.endsWith(4);
    expect(lineOf(stderr, "vda")).toContain("because vdb has failed (--fail-fast)");
  });

  test(
    "comes by a signal between clients with --keep, and each stream is whole",
    async () => {
      await using trial = await SeveralTrial.serve(twoWith("--keep"));
      for (const name of ["vda", "vdb"]) {
        const half = disk(name).length / 2;
        using first = await trial.clientOf(name);
        await writeWhole(first, disk(name).subarray(0, half));
        await first.closed();
        using second = await trial.clientOf(name);
        expect(await second.write(half, disk(name).subarray(half))).toBe(0);
        second.disconnect();
        await second.closed();
      }
      trial.program.process.kill("SIGTERM");
      await trial.endsWith(0);
      for (const name of ["vda", "vdb"]) expect(trial.output(name).equals(disk(name))).toBeTrue();
    },
    IN_TIME,
  );

  test(
    "by a signal with --keep truncates a stream that nobody came for, and no other",
    async () => {
      await using trial = await SeveralTrial.serve(twoWith("--keep"));
      using vda = await trial.clientOf("vda");
      await writeWhole(vda, disk("vda"));
      await vda.closed();
      trial.program.process.kill("SIGTERM");
      const { stderr } = await trial.endsWith(143);
      expect(lineOf(stderr, "vda")).toEndWith(": complete");
      expect(lineOf(stderr, "vdb")).toContain("truncated: ended by SIGTERM");
      expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([true, false]);
    },
    IN_TIME,
  );

  test("by a signal truncates the streams that are not whole yet, and leaves those that are", async () => {
    await using trial = await SeveralTrial.serve(TWO);
    using vda = await trial.clientOf("vda");
    await writeWhole(vda, disk("vda"));
    await trial.program.saying(/vda: .*complete/);
    using vdb = await trial.clientOf("vdb");
    expect(await vdb.write(0, disk("vdb").subarray(0, MiB))).toBe(0);
    trial.program.process.kill("SIGINT");
    await trial.endsWith(130);
    expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([true, false]);
  });

  test("does not come while the client of one may come back", async () => {
    const words = [`pipe=${KEPT}`, "-e", "vda", "--reconnect=60", "-e", "vdb"];
    await using trial = await SeveralTrial.serve(() => [...words, "-v"]);
    const half = disk("vda").length / 2;
    {
      using lost = await trial.clientOf("vda");
      expect(await lost.write(0, disk("vda").subarray(0, half))).toBe(0);
    }
    await trial.program.saying(/vda: client 1 ended: dropped/);
    using vdb = await trial.clientOf("vdb");
    await writeWhole(vdb, disk("vdb"));
    await trial.program.saying(/vdb: .*complete/);
    using back = await trial.clientOf("vda");
    expect(await back.write(half, disk("vda").subarray(half))).toBe(0);
    back.disconnect();
    await trial.endsWith(0);
    expect(trial.output("vda").equals(disk("vda"))).toBeTrue();
  });
});

describe("what is told", () => {
  const jsonLines = (text: string) =>
    text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  test("by SIGUSR1 is a line for each stream", async () => {
    await using trial = await SeveralTrial.serve(twoWith("--no-progress"));
    using vda = await trial.clientOf("vda");
    expect(await vda.write(0, disk("vda").subarray(0, MiB / 2))).toBe(0);
    trial.program.process.kill("SIGUSR1");
    await trial.program.saying(/vda: [^\n]*\n(.*\n)*nbd-streaming: vdb: [^\n]*\n/);
    trial.program.process.kill("SIGTERM");
    await trial.endsWith(143);
  });

  test("by --progress=json is a line for each stream, with its name", async () => {
    const words = ["--progress=json", "--progress-interval=0.05"];
    await using trial = await SeveralTrial.serve(twoWith(...words));
    for (const name of ["vda", "vdb"]) {
      using client = await trial.clientOf(name);
      await writeWhole(client, disk(name));
    }
    const { stderr } = await trial.endsWith(0);
    for (const name of ["vda", "vdb"]) {
      const last = jsonLines(stderr).findLast((line) => line.export === name);
      expect(last).toMatchObject({ export: name, streamed: disk(name).length });
    }
  });

  test("by --progress-fd is the percentage of all", async () => {
    const file = folder.file("percent");
    const fd = openSync(file, "w");
    try {
      const sizes = ["vda", "vdb"].flatMap((name) => ["-e", name, `size=${disk(name).length}`]);
      const words = [`pipe=${KEPT}`, ...sizes, "--progress-fd=3"];
      await using trial = await SeveralTrial.serve(() => words, { passed: fd });
      const last = () => readFileSync(file, "utf8").trim().split("\n").at(-1);
      using vda = await trial.clientOf("vda");
      await writeWhole(vda, disk("vda"));
      const share = (100 * disk("vda").length) / (disk("vda").length + disk("vdb").length);
      await eventually(() => last() === `${Math.floor(share)}/100`, "a third");
      using vdb = await trial.clientOf("vdb");
      await writeWhole(vdb, disk("vdb"));
      await trial.endsWith(0);
      expect(last()).toBe("100/100");
    } finally {
      closeSync(fd);
    }
  });

  test("by --summary=json is an object a line, as streams end", async () => {
    await using trial = await SeveralTrial.serve(twoWith("--summary=json"));
    for (const name of ["vdb", "vda"]) {
      using client = await trial.clientOf(name);
      await writeWhole(client, disk(name));
      await eventually(
        () => jsonLines(trial.program.stderr).some((line) => line.export === name),
        "its summary",
      );
    }
    const { stderr } = await trial.endsWith(0);
    expect(jsonLines(stderr).map((line) => [line.export, line.bytes, line.complete])).toEqual([
      ["vdb", disk("vdb").length, true],
      ["vda", disk("vda").length, true],
    ]);
    expect(stderr).not.toContain("streams complete");
  });

  test("by --summary=json:FILE is in one file, which replaces one of earlier streams", async () => {
    const words: Words = (trial) => [...TWO(trial), "--summary=json:report"];
    for (const expected of [true, false]) {
      await using trial = await SeveralTrial.serve((own) => {
        const report = folder.file("report");
        if (existsSync(report)) writeFileSync(own.file("report"), readFileSync(report));
        return words(own);
      });
      // An earlier report could be taken for that of these streams.
      expect(existsSync(trial.file("report"))).toBeFalse();
      using vda = await trial.clientOf("vda");
      await writeWhole(vda, disk("vda"));
      using vdb = await trial.clientOf("vdb");
      if (expected) await writeWhole(vdb, disk("vdb"));
      else trial.program.process.kill("SIGTERM");
      const { stderr } = await trial.endsWith(expected ? 0 : 143);
      const found = jsonLines(String(trial.output("report")));
      expect(
        found.map((line) => [line.export, line.complete]),
        stderr,
      ).toEqual([
        ["vda", expect.anything()],
        ["vdb", expected],
      ]);
      writeFileSync(folder.file("report"), trial.output("report"));
    }
  });

  test("by --checksum is in a file of each stream's own", async () => {
    const names = ["vda", "vdb"];
    const own = names.flatMap((name) => ["-e", name, `--checksum=sha256:${name}.sum`]);
    await using trial = await SeveralTrial.serve(() => [`pipe=${KEPT}`, ...own]);
    for (const name of names) {
      using client = await trial.clientOf(name);
      await writeWhole(client, disk(name));
    }
    await trial.endsWith(0);
    for (const name of names) {
      expect(String(trial.output(`${name}.sum`))).toBe(`${digestOf(disk(name))}  -\n`);
    }
  });

  test.each([
    ["for all", ["--checksum=md5:sum", "-e", "vda", "-e", "vdb"]],
    ["of two streams", ["-e", "vda", "--checksum=md5:sum", "-e", "vdb", "--checksum=md5:./sum"]],
    ["and the summary", ["-e", "vda", "--checksum=md5:sum", "-e", "vdb", "--summary=json:sum"]],
    ["and the pid file", ["-e", "vda", "--checksum=md5:sum", "-e", "vdb", "-P", "sum"]],
  ])("in one file %s is refused", async (_, words) => {
    await using trial = SeveralTrial.started(() => ["serve", `pipe=${KEPT}`, ...words]);
    const { stderr } = await trial.endsWith(2);
    expect(stderr).toContain("are one file");
    expect(readdirSync(trial.file("."))).toEqual([]);
  });
});

describe("a command of exec:", () => {
  test("knows its own stream's name and size, and no other's", async () => {
    const told = "exec:cat > /dev/null; env | grep ^NBD_STREAMING_ > ";
    const words = ["-e", "vda", `pipe=${told}one`, "size=1M", "-e", "vdb", `pipe=${told}other`];
    await using trial = SeveralTrial.started(() => [
      ...["run", ...words, "--"],
      `nbdcopy ${path("vda")} "$uri_vda" && nbdcopy ${path("vdb")} "$uri_vdb"`,
    ]);
    await trial.endsWith(0);
    const facts = (file: string) =>
      String(trial.output(file))
        .split("\n")
        .filter((line) => /^NBD_STREAMING_(EXPORT|SIZE)=/.test(line))
        .toSorted();
    expect(facts("one")).toEqual(["NBD_STREAMING_EXPORT=vda", `NBD_STREAMING_SIZE=${MiB}`]);
    expect(facts("other")).toEqual(["NBD_STREAMING_EXPORT=vdb"]);
  });

  test.each([
    "with space",
    `quote"d`,
    "it's",
    "$(touch x)",
    "`touch x`",
    "; touch x",
    "-n",
    "--pad",
    "*",
    "a\\b",
    "line\nbreak",
    "ünï",
    "a=b",
    "%2F%s",
  ])("gets the name %p as it is, and no shell sees it as text", async (name) => {
    const pipe = 'exec:cat > /dev/null; printf %s "$NBD_STREAMING_EXPORT" > name';
    const words = ["-e", name, `pipe=${pipe}`, "-e", "vdb", "pipe=/dev/null"];
    await using trial = await SeveralTrial.serve(() => words);
    for (const each of [name, "vdb"]) {
      using client = await trial.clientOf(each);
      await writeWhole(client, disk("vda"));
    }
    await trial.endsWith(0);
    expect(String(trial.output("name"))).toBe(name);
    expect(existsSync(trial.file("x"))).toBeFalse();
  });

  test("finds nothing of a name in the words of a captive command", async () => {
    const name = "$(touch x)";
    const words = ["run", "-e", name, "pipe=/dev/null", "-e", "vdb", "pipe=/dev/null", "--"];
    const line = 'printf "%s\\n" "$uri" "$nbd"; env | grep -c touch >&2';
    await using trial = SeveralTrial.started(() => [...words, line]);
    await trial.program.ended();
    expect(existsSync(trial.file("x"))).toBeFalse();
    expect(trial.program.stderr).toMatch(/^0$/m);
  });
});

test("the sinks of streams that are killed by SIGKILL see no ordinary end", async () => {
  await using trial = await SeveralTrial.serve(TWO);
  for (const name of ["vda", "vdb"]) {
    using client = await trial.clientOf(name);
    expect(await client.write(0, disk(name).subarray(0, MiB / 2))).toBe(0);
    if (name === "vdb") trial.program.process.kill("SIGKILL");
  }
  await trial.program.ended();
  await eventually(() => trial.processes().length === 0, "the commands to be gone");
  expect([trial.isWhole("vda"), trial.isWhole("vdb")]).toEqual([false, false]);
});
