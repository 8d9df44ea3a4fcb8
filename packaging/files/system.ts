/** What a package of a Linux distribution installs, and where; .deb and .rpm have the same. */
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { completions, COMPLETIONS } from "../completions.ts";
import { ROOT } from "../release/commit.ts";

/** A file of a package, by its path from the root of the system. */
export interface PackagedFile {
  readonly path: string;
  readonly data: Buffer | string;
  /** Default: 0644. */
  readonly mode?: number;
}

export const DOC = "usr/share/doc/nbd-streaming";
const UNITS = "usr/lib/systemd/system";
/** The last one says how to use the units. */
const PAGES = ["README.md", "SECURITY.md", "packaging/README.md"];

/** Where zsh looks for completions is the distribution's choice. */
interface Distribution {
  readonly zsh: string;
}

/** @param binary the program */
export function systemFiles(binary: string, { zsh }: Distribution): PackagedFile[] {
  const read = (name: string) => readFileSync(join(ROOT, name));
  const folder = (name: string) => readdirSync(join(ROOT, name)).map((file) => `${name}/${file}`);
  const shells = {
    bash: "usr/share/bash-completion/completions",
    zsh,
    fish: "usr/share/fish/vendor_completions.d",
  };
  return [
    { path: "usr/bin/nbd-streaming", data: readFileSync(binary), mode: 0o755 },
    { path: "usr/share/man/man1/nbd-streaming.1.gz", data: gzipped(read("man/nbd-streaming.1")) },
    ...(["bash", "zsh", "fish"] as const).map((shell) => ({
      path: `${shells[shell]}/${COMPLETIONS[shell]}`,
      data: completions(shell),
    })),
    ...readdirSync(join(ROOT, "packaging/systemd")).map((unit) => ({
      path: `${UNITS}/${unit}`,
      // By hand, the program goes where no package puts anything.
      data: read(`packaging/systemd/${unit}`).toString().replaceAll("/usr/local/bin/", "/usr/bin/"),
    })),
    // Examples are to be copied: documentation that can be executed is an error for rpmlint.
    ...[...PAGES, ...folder("docs"), ...folder("examples")].map((page) => ({
      path: `${DOC}/${page}`,
      data: read(page),
    })),
  ];
}

/** The same bytes for the same data: without a name or a time. */
export function gzipped(data: Buffer | string): Buffer {
  return gzipSync(data, { level: 9 });
}

/**
 * Writes files below a folder, whatever the umask is.
 *
 * @param time what all of them have, in seconds since 1970
 */
export function stage(root: string, files: readonly PackagedFile[], time: number): void {
  const folders = new Set([root]);
  for (const { path, data, mode = 0o644 } of files) {
    const place = join(root, path);
    mkdirSync(dirname(place), { recursive: true });
    for (let up = dirname(place); up !== root; up = dirname(up)) folders.add(up);
    writeFileSync(place, data);
    chmodSync(place, mode);
    utimesSync(place, time, time);
  }
  for (const path of folders) {
    chmodSync(path, 0o755);
    utimesSync(path, time, time);
  }
}
