/** The programs of a row: how each is measured, and how it is checked. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Column, PipeRow, ReadRow, Row } from "../rows/row.ts";
import { allowedCores } from "../run/cores.ts";
import type { Data, BenchFiles } from "../run/files.ts";
import type { Ends, Outcome } from "../run/transfer.ts";
import {
  comparing,
  counting,
  DIGEST,
  DISCARD,
  fifoReader,
  fifoWriter,
  intoFifo,
  type Reader,
  sinkEnd,
} from "./ends.ts";
import type { Peer } from "./peer.ts";
import { MAIN, nbdkit, nothing, ours, type Serving } from "./servers.ts";

/** One program in one row. */
export interface Subject {
  column: Column;
  measured: Ends;
  /** The same, or nearly, and it fails if what arrives is not right. */
  checked: Ends;
  /** Looks at what the check run has left. @throws Error when that is not right */
  verify?(checked: Outcome): void;
}

interface Setting<R extends Row = Row> {
  row: R;
  files: BenchFiles;
  data: Data;
  serving: Serving;
  env: Record<string, string>;
}

export function subjects(row: Row, files: BenchFiles, nbdkitHere: Peer | undefined): Subject[] {
  // Otherwise its columns are empty, and what the row was measured with says why.
  const peer = row.tls !== true || nbdkitHere?.tls === true ? nbdkitHere : undefined;
  const data = files.data(row);
  const certificates = row.tls === true ? files.certificates : undefined;
  const env = {
    IMAGE: data.path,
    SIZE: String(data.bytes),
    TARGET: files.target(row),
    ...(certificates !== undefined && { CERTIFICATES: certificates }),
  };
  const program = row.compiled === true ? [files.binary] : [process.execPath, MAIN];
  const serving = { row, bytes: data.bytes, client: row.client, program, certificates };
  const common = { files, data, serving, env };
  const served =
    row.parameter === "pipe"
      ? pipeSubjects({ ...common, row }, peer)
      : readSubjects({ ...common, row }, peer);
  const all = [...served, ...plain({ ...common, row }), ...alone({ ...common, row }, peer)];
  const wanted = all.filter(({ column }) => column === "ours" || row.beside.includes(column));
  return row.oneCore === true ? wanted.map(onOneCore) : wanted;
}

/** Whatever a program starts is where the program is (sched_setaffinity(2)). */
function onOneCore(subject: Subject): Subject {
  const [core] = allowedCores();
  const pinned = (cmd: string[]) => ["taskset", "-c", String(core), ...cmd];
  const ends = ({ program, other, listener, ...rest }: Ends): Ends => ({
    ...rest,
    program: (places) => pinned(program(places)),
    ...(other && { other: (stream, pid) => pinned(other(stream, pid)) }),
    ...(listener && { listener: (stream) => pinned(listener(stream)) }),
  });
  return { ...subject, measured: ends(subject.measured), checked: ends(subject.checked) };
}

function pipeSubjects(setting: Setting<PipeRow>, peer: Peer | undefined): Subject[] {
  const { row, files, data, serving, env } = setting;
  const check = row.digest === true ? DIGEST : comparing(row, data, files);
  const digestFile = join(files.folder, "stream.sha256");
  const own = (reader: Reader, args: readonly string[]): Ends => {
    const { target, start, ...end } = sinkEnd(row.sink ?? "fifo", reader);
    return {
      program: (places) => start(ours(serving, places, target(places.stream), args), places.stream),
      env,
      ...end,
      ...(row.statuses === undefined ? {} : { statuses: row.statuses }),
    };
  };
  const digest = row.digest === true;
  const spool = row.spool === true ? [`spool=${files.folder}`] : [];
  const told = [...spool, ...(row.args ?? [])];
  const found: Subject[] = [
    {
      column: "ours",
      measured: own(DISCARD, [...told, ...(digest ? ["--checksum", "sha256"] : [])]),
      checked: own(check, [...told, ...(digest ? ["--checksum", `sha256:${digestFile}`] : [])]),
      ...(digest && {
        verify: ({ output }) => {
          verifyDigest(setting, output);
          verifyDigest(setting, readFileSync(digestFile, "utf8"));
        },
      }),
    },
    { column: "plain", measured: own(DISCARD, []), checked: own(check, []) },
    ...throughFile(setting, check),
  ];
  if (peer === undefined) return found;
  const theirs = (reader: Reader): Ends => ({
    program: (places) => nbdkit(serving, places, peer),
    env,
    other: fifoReader(reader),
  });
  return [
    ...found,
    {
      column: "nbdkit",
      measured: theirs(digest ? DIGEST : DISCARD),
      checked: theirs(check),
      ...(digest && { verify: ({ output }) => verifyDigest(setting, output) }),
    },
  ];
}

/** The client writes a file, which then goes into the FIFO. */
function throughFile({ row, files, env }: Setting<PipeRow>, check: Reader): Subject[] {
  if (row.fileClient === undefined) return [];
  const file = join(files.folder, "between");
  const script = `${row.fileClient} && cat "$FILE" > "$1"; status=$?; rm -f "$FILE"; exit $status`;
  const through = (reader: Reader): Ends => ({
    program: ({ stream }) => ["sh", "-c", script, "sh", stream],
    env: { ...env, FILE: file },
    other: fifoReader(reader),
  });
  return [{ column: "file", measured: through(DISCARD), checked: through(check) }];
}

/** @param text begins with a digest, as that of sha256sum */
function verifyDigest({ files, data }: Setting, text: string): void {
  const [found, wanted] = [text.split(" ")[0], files.digest(data)];
  if (found !== wanted) throw new Error(`the digest is ${found} instead of ${wanted}`);
}

function readSubjects(setting: Setting<ReadRow>, peer: Peer | undefined): Subject[] {
  const { row, data, serving, env } = setting;
  const both = (column: Column, program: (client: string) => Ends["program"]): Subject => {
    const ends = { env, other: fifoWriter(data.path) };
    return {
      column,
      measured: { program: program(row.client), ...ends },
      checked: { program: program(row.check), ...ends },
    };
  };
  const own = both(
    "ours",
    (client) => (places) => ours({ ...serving, client }, places, places.stream, row.args ?? []),
  );
  if (peer === undefined) return [own];
  const theirs = both(
    "nbdkit",
    (client) => (places) => nbdkit({ ...serving, client }, places, peer),
  );
  return [own, theirs];
}

/** What needs no server whose disk is a stream, by the same FIFO as the others. */
function plain({ row, files, data }: Setting): Subject[] {
  const copy: Ends["program"] = ({ stream }) =>
    intoFifo(["nbdcopy", "--", "[", ...qemuNbd(data), "]", "-"], stream);
  const cat: Ends["program"] = ({ stream }) => fifoWriter(data.path)(stream);
  const length = Bun.file(data.path).size;
  const check = row.parameter === "pipe" ? comparing(row, data, files) : counting(data.bytes);
  return [
    {
      column: "nbdcopy",
      measured: { program: copy, other: fifoReader(DISCARD) },
      checked: { program: copy, other: fifoReader(check) },
    },
    {
      column: "cat",
      measured: { program: cat, other: fifoReader(DISCARD) },
      // It copies the file of the image, and not the disk in it.
      checked: { program: cat, other: fifoReader(counting(length)) },
    },
  ];
}

function qemuNbd({ path, format }: Data): string[] {
  return ["qemu-nbd", "-r", "-f", format, path];
}

/** The client and no stream; there is nothing to check but its status. */
function alone({ row, serving, env }: Setting, peer: Peer | undefined): Subject[] {
  if (peer === undefined) return [];
  const client = row.limitClient ?? row.client;
  const ends: Ends = {
    program: (places) => nothing({ ...serving, client }, places, peer),
    env,
  };
  return [{ column: "limit", measured: ends, checked: ends }];
}
