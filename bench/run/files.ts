/** What the rows have to work with: files that are made when a row wants them. */
import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { makeCertificates } from "../../test/support/certificates.ts";
import { type Content, MIB, type Row } from "../rows/row.ts";
import { BINARY, compileOurs } from "./compiled.ts";
import { command, copyHead, randomFile } from "./scratch.ts";

/** Nothing here compresses or finds repetitions, so a small file many times over will do. */
const PART_MIB = 64;

/** Of mostly zeroes: one of qcow2's clusters in a hundred. */
const SPARSE_PIECE = 2 ** 16;
const SPARSE_STEP = 100 * SPARSE_PIECE;

const PKI = "pki";

/** A compiled program has Bun in it. */
const BINARY_ROOM = 128 * MIB;

export interface Data {
  /** An image of the format. */
  path: string;
  format: "qcow2" | "raw";
  /** The size of the disk in it. */
  bytes: number;
  /** The disk as a raw file, where there is one. */
  raw: string | undefined;
}

interface File {
  kind: Content | "target";
  mib: number;
}

/**
 * The files are, each with a disk of the size that the row wants,
 * - `qcow2`: an image without a hole, full of random data,
 * - `raw`: the same as a raw file,
 * - `sparse`: a qcow2 image in which 1% is random data, evenly spread,
 * - `target`: a raw file to write to, which has all of its pages.
 *
 * Besides them there is a folder of certificates, and the compiled program, for the rows that
 * want them.
 */
export class BenchFiles {
  /** @param mib `--size` */
  private constructor(
    readonly folder: string,
    readonly mib: number,
    /** The disk of `qcow2` and `raw` is this file over and over. */
    readonly part: string,
  ) {}

  static async make(folder: string, mib: number): Promise<BenchFiles> {
    return new BenchFiles(folder, mib, await randomFile(folder, PART_MIB * MIB));
  }

  #made = new Map<string, File>();

  /** Makes what a row needs that is not there yet, and removes what nobody needs any more. */
  async prepare(row: Row, later: readonly Row[]): Promise<void> {
    const needed = new Set([row, ...later].flatMap((each) => files(each, this.mib).map(nameOf)));
    for (const [name, file] of this.#made) {
      if (needed.has(name)) continue;
      for (const path of [this.#path(file), this.#sparseRaw(file)]) rmSync(path, { force: true });
      this.#made.delete(name);
    }
    for (const file of files(row, this.mib)) {
      if (this.#made.has(nameOf(file))) continue;
      await this.#make(file);
      // Or the kernel would be writing it back during the first runs.
      await command(["sync", this.#path(file)]);
      this.#made.set(nameOf(file), file);
    }
    if (row.tls === true && !existsSync(this.certificates)) {
      mkdirSync(join(this.folder, PKI));
      makeCertificates(join(this.folder, PKI));
    }
    if (row.compiled === true && !existsSync(this.binary)) await compileOurs(this.folder);
  }

  /** Ours as one file, once a row that wants it is prepared. */
  get binary(): string {
    return join(this.folder, BINARY);
  }

  /** A folder for both ends of TLS, once a row that wants it is prepared. */
  get certificates(): string {
    return join(this.folder, PKI, "all");
  }

  data(row: Row): Data {
    const file = { kind: row.data, mib: mibOf(row, this.mib) };
    const path = this.#path(file);
    const bytes = file.mib * MIB;
    switch (row.data) {
      case "qcow2":
        return { path, format: "qcow2", bytes, raw: undefined };
      case "raw":
        return { path, format: "raw", bytes, raw: path };
      case "sparse":
        return { path, format: "qcow2", bytes, raw: this.#sparseRaw(file) };
    }
  }

  target(row: Row): string {
    return this.#path({ kind: "target", mib: mibOf(row, this.mib) });
  }

  /** sha256 of the disk in `qcow2` or `raw`, in hexadecimal. */
  digest({ bytes }: Data): string {
    const part = readFileSync(this.part);
    const hash = createHash("sha256");
    for (let done = 0; done < bytes; done += part.length) {
      hash.update(part.subarray(0, Math.min(part.length, bytes - done)));
    }
    return hash.digest("hex");
  }

  #path(file: File): string {
    return join(this.folder, `${nameOf(file)}.img`);
  }

  #sparseRaw(file: File): string {
    return join(this.folder, `${nameOf(file)}.raw`);
  }

  async #make(file: File): Promise<void> {
    const path = this.#path(file);
    switch (file.kind) {
      case "qcow2":
        return await this.#makeQcow2(path, file.mib);
      case "raw":
        return await copyHead(this.#parts(file.mib), file.mib * MIB, path);
      case "sparse":
        writeSparse(this.#sparseRaw(file), file.mib * MIB);
        return await toQcow2([this.#sparseRaw(file)], path);
      case "target":
        return await copyHead(["/dev/zero"], file.mib * MIB, path);
    }
  }

  async #makeQcow2(path: string, mib: number): Promise<void> {
    const whole = Array<string>(Math.floor(mib / PART_MIB)).fill(this.part);
    const rest = join(this.folder, "rest.raw");
    await copyHead([this.part], (mib % PART_MIB) * MIB, rest);
    await toQcow2(mib % PART_MIB === 0 ? whole : [...whole, rest], path);
    rmSync(rest);
  }

  #parts(mib: number): string[] {
    return Array<string>(Math.ceil(mib / PART_MIB)).fill(this.part);
  }
}

/** How much room the files take at most at a time. */
export function roomFor(mib: number, rows: readonly Row[]): number {
  const needs = rows.map((row) => files(row, mib));
  const atOnce = rows.map((_, index) => {
    const before = new Set(needs.slice(0, index + 1).flatMap((row) => row.map(nameOf)));
    const later = new Map(
      needs.slice(index).flatMap((row) => row.map((file) => [nameOf(file), file])),
    );
    const there = [...later].filter(([name]) => before.has(name));
    return there.reduce((sum, [, file]) => sum + roomOf(file), 0);
  });
  return Math.max(...atOnce) + 2 * PART_MIB * MIB + BINARY_ROOM;
}

function roomOf({ kind, mib }: File): number {
  // With what a qcow2 image has besides its data.
  if (kind === "sparse") return ((2 * mib) / 100 + mib / 1000 + 1) * MIB;
  return (mib + mib / 1000 + 1) * MIB;
}

/** What a row needs; of its own data first. */
function files(row: Row, mib: number): File[] {
  const own = { kind: row.data, mib: mibOf(row, mib) };
  return writesTarget(row) ? [own, { kind: "target", mib: own.mib }] : [own];
}

function mibOf(row: Row, mib: number): number {
  return Math.max(1, Math.round(row.share * mib));
}

function nameOf({ kind, mib }: File): string {
  return `${kind}-${mib}`;
}

function writesTarget(row: Row): boolean {
  return row.client.includes("$TARGET");
}

async function toQcow2(raw: string[], path: string): Promise<void> {
  await command(["qemu-img", "convert", "-f", "raw", ...raw, "-O", "qcow2", path]);
}

function writeSparse(path: string, bytes: number): void {
  const file = openSync(path, "w");
  try {
    ftruncateSync(file, bytes);
    for (let at = 0; at < bytes; at += SPARSE_STEP) {
      writeSync(file, randomBytes(SPARSE_PIECE), 0, SPARSE_PIECE, at);
    }
  } finally {
    closeSync(file);
  }
}
