/** A package for Debian and Ubuntu, made by dpkg-deb(1). */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  DESCRIPTION,
  type Machine,
  MACHINES,
  MAINTAINER,
  REVISION,
  SUMMARY,
  VERSION,
} from "../files/about.ts";
import { licencesOfBinary } from "../files/licences.ts";
import { DOC, gzipped, type PackagedFile, stage, systemFiles } from "../files/system.ts";
import { type Commit, ROOT, run } from "../release/commit.ts";

const HERE = import.meta.dir;

/** The oldest glibc that has all symbols of Bun's program; test/e2e/packages.test.ts looks. */
export const GLIBC = "2.17";

export function debName(machine: Machine): string {
  return `nbd-streaming_${VERSION}-${REVISION}_${MACHINES[machine].deb}.deb`;
}

/** @param path of the package @param binary the program */
export function makeDeb(path: string, binary: string, machine: Machine, commit: Commit): void {
  const folder = mkdtempSync(join(tmpdir(), "nbd-streaming-deb-"));
  try {
    const files = [
      ...systemFiles(binary, { zsh: "usr/share/zsh/vendor-completions" }),
      ...debianFiles(commit),
    ];
    const control: PackagedFile[] = [
      { path: "DEBIAN/control", data: controlOf(files, machine) },
      { path: "DEBIAN/md5sums", data: files.map(md5sum).join("") },
      { path: "DEBIAN/postinst", data: script("configure", "reload"), mode: 0o755 },
      { path: "DEBIAN/prerm", data: script("remove", "removal"), mode: 0o755 },
      { path: "DEBIAN/postrm", data: script("remove", "reload"), mode: 0o755 },
    ];
    stage(folder, [...files, ...control], commit.time);
    run(
      [
        ...["dpkg-deb", "--root-owner-group"],
        // One thread: more of them could give other bytes. The higher levels take far longer for a twentieth.
        ...["-Zxz", "-z1", "--threads-max=1"],
        ...["--build", folder, path],
      ],
      { env: { SOURCE_DATE_EPOCH: String(commit.time) } },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What only Debian has. */
function debianFiles({ name, time }: Commit): PackagedFile[] {
  const date = new Date(time * 1000).toUTCString().replace("GMT", "+0000");
  const changelog = `nbd-streaming (${VERSION}-${REVISION}) unstable; urgency=medium

  * Version ${VERSION}, of commit ${name}: changelog.gz has what is new.

 -- ${MAINTAINER}  ${date}
`;
  const copyright = `${readFileSync(join(HERE, "copyright"), "utf8")}
${readFileSync(join(ROOT, "LICENSE"), "utf8")}
${licencesOfBinary()}`;
  return [
    { path: `${DOC}/changelog.Debian.gz`, data: gzipped(changelog) },
    { path: `${DOC}/changelog.gz`, data: gzipped(readFileSync(join(ROOT, "CHANGELOG.md"))) },
    { path: `${DOC}/copyright`, data: copyright },
    {
      path: "usr/share/lintian/overrides/nbd-streaming",
      data: readFileSync(join(HERE, "lintian-overrides")),
    },
  ];
}

/** deb-control(5). */
function controlOf(files: readonly PackagedFile[], machine: Machine): string {
  // In KiB, as dpkg-gencontrol(1) counts: each file is rounded up.
  const size = files.reduce((sum, { data }) => sum + Math.ceil(Buffer.byteLength(data) / 1024), 0);
  return `Package: nbd-streaming
Version: ${VERSION}-${REVISION}
Section: utils
Priority: optional
Architecture: ${MACHINES[machine].deb}
Depends: libc6 (>= ${GLIBC})
Recommends: qemu-utils, libnbd-bin
Suggests: zstd
Installed-Size: ${size}
Maintainer: ${MAINTAINER}
Description: ${SUMMARY}
${DESCRIPTION.map((line) => ` ${line}\n`).join("")}`;
}

function md5sum({ path, data }: PackagedFile): string {
  return `${createHash("md5").update(data).digest("hex")}  ${path}\n`;
}

/** A maintainer's script that does one thing at one occasion (Debian policy, 6.5). */
function script(occasion: string, file: string): string {
  const body = readFileSync(join(HERE, `../files/${file}.sh`), "utf8");
  return `#!/bin/sh\nset -e\n[ "$1" = ${occasion} ] || exit 0\n${body}`;
}
